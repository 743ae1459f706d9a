/**
 * The kept inputs, one small file per target: u32 length, bytes, and so on, compressed. Read from
 * the source folder, because the compiler copies no data files.
 */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { gunzipSync, gzipSync } from 'node:zlib'

const directory = new URL('../../../test/fuzz/corpus/', import.meta.url)

export function readCorpus(target: string): Uint8Array[] {
  const file = new URL(`${target}.gz`, directory)
  if (!existsSync(file)) return []
  const packed = gunzipSync(readFileSync(file))
  const inputs: Uint8Array[] = []
  for (let at = 0; at < packed.length;) {
    const length = packed.readUInt32BE(at)
    inputs.push(Uint8Array.from(packed.subarray(at + 4, at + 4 + length)))
    at += 4 + length
  }
  return inputs
}

export function writeCorpus(target: string, inputs: readonly Uint8Array[]): void {
  const parts = inputs.flatMap((input) => {
    const length = Buffer.alloc(4)
    length.writeUInt32BE(input.length)
    return [length, input]
  })
  mkdirSync(directory, { recursive: true })
  writeFileSync(new URL(`${target}.gz`, directory), gzipSync(Buffer.concat(parts), { level: 9 }))
}

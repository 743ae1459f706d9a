/** The saved VMs of test/fixtures/saved, unpacked once for each process. */
import { createHash } from 'node:crypto'
import {
  closeSync,
  existsSync,
  ftruncateSync,
  mkdtempSync,
  openSync,
  readFileSync,
  readSync,
  rmSync,
  writeSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { gunzipSync } from 'node:zlib'
import { type SavedBlock, type SavedImage, SavedRun } from '../../src/sources/index.js'

const fixtures = new URL('../../../test/fixtures/saved/', import.meta.url)

let folder: string | undefined

/** A folder that is removed when the process ends. */
export function sampleFolder(): string {
  if (folder === undefined) {
    const made = mkdtempSync(join(tmpdir(), 'postcopy-saved-'))
    process.on('exit', () => rmSync(made, { recursive: true, force: true }))
    folder = made
  }
  return folder
}

/** The path of a sample, which no test may change. */
export function sample(name: string): string {
  const path = join(sampleFolder(), name)
  if (!existsSync(path)) unpack(name, path)
  return path
}

/** See test/fixtures/saved/README.md. */
function unpack(name: string, path: string): void {
  const packed = gunzipSync(gunzipSync(readFileSync(new URL(`${name}.packed`, fixtures))))
  const fd = openSync(path, 'w')
  ftruncateSync(fd, Number(packed.readBigUInt64BE(0)))
  for (let at = 8; at < packed.length;) {
    const offset = Number(packed.readBigUInt64BE(at))
    const length = Number(packed.readBigUInt64BE(at + 8))
    writeSync(fd, packed, at + 16, length, offset)
    at += 16 + length
  }
  closeSync(fd)
}

/** By sample, or by `SAMPLE#SNAPSHOT`: the beginning of the SHA-256 of each RAM block. */
export const contents = JSON.parse(
  readFileSync(new URL('contents.json', fixtures), 'utf8'),
) as Readonly<Record<string, Readonly<Record<string, string>>>>

/** The same checksums of what an image says, by a plain reader of its runs. */
export function checksums(image: SavedImage): Record<string, string> {
  return Object.fromEntries(image.blocks.map((block) => [block.name, checksum(image, block)]))
}

function checksum({ fds }: SavedImage, block: SavedBlock): string {
  const hash = createHash('sha256')
  const page = Buffer.alloc(4096)
  const zeros = Buffer.alloc(4096)
  let next = 0
  const addZeros = (end: number): void => {
    for (; next < end; next += 1) hash.update(zeros)
  }
  for (const { page: number, file, offset } of pagesOf(block)) {
    addZeros(number)
    readSync(fds[file] ?? -1, page, 0, page.length, offset)
    hash.update(page)
    next = number + 1
  }
  addZeros(block.lengthBytes / 4096)
  return hash.digest('hex').slice(0, 16)
}

/** Where each page with data is. */
export function* pagesOf({
  runs,
  data,
}: SavedBlock): Generator<{ page: number; file: number; offset: number }> {
  for (let at = 0; at < runs.length; at += SavedRun.stride) {
    const [first = 0, count = 0, file = 0, offset = 0, stride = 0] = runs.subarray(at)
    for (let index = 0; index < count; index += 1) {
      const page = first + index
      if (data.test(page)) yield { page, file, offset: offset + index * stride }
    }
  }
}

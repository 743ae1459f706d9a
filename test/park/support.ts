/** Parks without QEMU: captured streams of QEMU, or streams that a source of ours sends. */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { Park } from '../../src/park/index.js'
import { StreamDecoder } from '../../src/stream/index.js'
import { cleanups } from '../support/cleanup.js'
import { temporaryFolder } from '../cli/support.js'
import { golden } from '../stream/golden.js'

export interface ParkedBytes {
  folder: string
  directory: string
  park: Park
}

/** Parks a saved stream; `park.state` is its result. */
export async function parkBytes(bytes: Uint8Array): Promise<ParkedBytes> {
  const folder = await temporaryFolder()
  const file = join(folder, 'saved')
  writeFileSync(file, bytes)
  const directory = join(folder, 'vm')
  const park = Park.fromFile({ file, directory })
  cleanups.add(() => park.close())
  await settled(park)
  return { folder, directory, park }
}

/** A parked VM, made from a precopy of QEMU. */
export async function parkedVm(): Promise<{ folder: string; directory: string }> {
  const { folder, directory } = await parkBytes(golden('precopy'))
  return { folder, directory }
}

/** Resolves when the park has reached its last state. */
export async function settled(park: Park): Promise<void> {
  await new Promise<void>((resolve) => {
    park.on('state', (state) => {
      if (state === 'postcopy-paused') resolve()
    })
    park.done.then(resolve, () => resolve())
  })
}

/** RAM of a saved stream by block, from a plain decoder. */
export function ramOf(bytes: Uint8Array): Map<string, Uint8Array> {
  const blocks = new Map<string, Uint8Array>()
  const decoder = new StreamDecoder({
    ramBlocks: (list) => {
      for (const { name, usedLengthBytes } of list) {
        blocks.set(name, new Uint8Array(usedLengthBytes))
      }
    },
    ramPage: (name, offset, input, start) => {
      blocks.get(name)?.set(input.subarray(start, start + 4096), offset)
    },
    ramZero: (name, offset) => blocks.get(name)?.fill(0, offset, offset + 4096),
  })
  decoder.write(bytes)
  return blocks
}

/** What the two kinds of `postcopy park` print about a VM that arrives, and has arrived. */
import type { Manifest, Park } from '../park/index.js'
import { printable } from '../printable.js'
import { formatByteSize, TARGET_PAGE_SIZE } from '../units.js'

/** Resolves at the last state, whatever it is. */
export async function settled(park: Park, onState: (state: string) => void): Promise<void> {
  await new Promise<void>((resolve) => {
    park.on('state', (state) => {
      onState(state)
      if (state === 'postcopy-paused') resolve()
    })
    if (park.state === 'postcopy-paused') resolve()
    park.done.then(resolve, () => resolve())
  })
}

export interface ParkResult {
  readonly directory: string
  readonly machineType: string
  readonly way: string
  readonly ramBytes: number
  readonly dataBytes: number
  readonly durationMs: number
  readonly transferredBytes: number
  readonly blocks: readonly { readonly name: string; readonly lengthBytes: number }[]
}

export function resultOf(directory: string, manifest: Manifest): ParkResult {
  const { machineType, way, blocks, statistics } = manifest
  return {
    directory,
    machineType,
    way,
    ramBytes: blocks.reduce((sum, { lengthBytes }) => sum + lengthBytes, 0),
    dataBytes: blocks.reduce((sum, { dataPages }) => sum + dataPages * TARGET_PAGE_SIZE, 0),
    durationMs: statistics.durationMs,
    transferredBytes: statistics.transferredBytes,
    blocks: blocks.map(({ name, lengthBytes }) => ({ name, lengthBytes })),
  }
}

export function inWords(result: ParkResult): string {
  const { directory, machineType, ramBytes, dataBytes, durationMs } = result
  const seconds = (durationMs / 1000).toFixed(2)
  return `parked in ${directory}: a ${printable(machineType)} with ${formatByteSize(ramBytes)} of RAM, ${formatByteSize(dataBytes)} of it on disk, in ${seconds} s\n`
}

/** A RAM block at the source, with the state of each of its pages. */
import { PageBitmap, RamBlock, type TrackedBlock } from '../ram/index.js'
import type { SharedSourceBlock } from './protocol.js'

/** What a connection needs to know of a block. */
export interface SentBlock extends TrackedBlock {
  /** The pages that may hold anything but zeros. */
  readonly data: PageBitmap
  /** Zero pages that are owed, but sent only on request. They are not dirty. */
  readonly leftOut: PageBitmap
}

export interface SourceBlock extends SentBlock {
  /** The pages owed when postcopy handed the guest over. */
  readonly owed: PageBitmap
  /** The pages that the destination had at the last recovery. */
  readonly confirmed: PageBitmap
  /** Undefined: all pages are here. */
  readonly available: PageBitmap | undefined
}

export function attachBlocks(shared: readonly SharedSourceBlock[]): SourceBlock[] {
  const blocks = RamBlock.attachAll(shared)
  return shared.flatMap(({ dirty, owed, data, leftOut, confirmed, available }, index) => {
    const block = blocks[index]
    if (block === undefined) return []
    const view = (bytes: Uint8Array): PageBitmap => new PageBitmap(block.pageCount, bytes)
    return {
      block,
      dirty: view(dirty),
      owed: view(owed),
      data: view(data),
      leftOut: view(leftOut),
      confirmed: view(confirmed),
      available: available === undefined ? undefined : view(available),
    }
  })
}

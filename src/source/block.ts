/** A RAM block at the source, with the state of each of its pages. */
import { PageBitmap, RamBlock, type TrackedBlock } from '../ram/index.js'
import type { SharedSourceBlock } from './protocol.js'

export interface SourceBlock extends TrackedBlock {
  /** The pages owed when postcopy handed the guest over. */
  readonly owed: PageBitmap
  /** The pages that the destination had at the last recovery. */
  readonly confirmed: PageBitmap
  /** Undefined: all pages are here. */
  readonly available: PageBitmap | undefined
}

export function attachBlocks(shared: readonly SharedSourceBlock[]): SourceBlock[] {
  const blocks = RamBlock.attachAll(shared)
  return shared.flatMap(({ dirty, owed, confirmed, available }, index) => {
    const block = blocks[index]
    if (block === undefined) return []
    const view = (bytes: Uint8Array): PageBitmap => new PageBitmap(block.pageCount, bytes)
    return {
      block,
      dirty: view(dirty),
      owed: view(owed),
      confirmed: view(confirmed),
      available: available === undefined ? undefined : view(available),
    }
  })
}

/** A RAM block on the destination, with what is known of each of its pages. */
import { PageBitmap, RamBlock } from '../ram/index.js'
import type { SharedBlock } from './protocol.js'

export interface DestinationBlock {
  readonly block: RamBlock
  /** Has come and is up to date. Such a page is in place, or in `zeroed`. */
  readonly received: PageBitmap
  /** Came as a zero page and has not been touched: it may be missing and is then zero. */
  readonly zeroed: PageBitmap
  /** Was named by a discard: will come (again) in postcopy. */
  readonly discarded: PageBitmap
  /** Has been asked for. */
  readonly requested: PageBitmap
  /** What precopy had brought when postcopy began. */
  readonly precopied: PageBitmap
}

export function attachBlocks(shared: readonly SharedBlock[]): DestinationBlock[] {
  const blocks = RamBlock.attachAll(shared)
  return shared.flatMap(({ received, zeroed, requested, precopied }, index) => {
    const block = blocks[index]
    if (block === undefined) return []
    const { pageCount } = block
    return {
      block,
      received: new PageBitmap(pageCount, received),
      zeroed: new PageBitmap(pageCount, zeroed),
      discarded: new PageBitmap(pageCount),
      requested: new PageBitmap(pageCount, requested),
      precopied: new PageBitmap(pageCount, precopied),
    }
  })
}

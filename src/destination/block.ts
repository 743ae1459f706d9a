/** A RAM block at the destination, with the state of each of its pages. */
import { PeerError } from '../errors.js'
import { missingChecksum, PageBitmap, RamBlock } from '../ram/index.js'
import { TARGET_PAGE_SIZE } from '../units.js'
import type { SharedBlock } from './protocol.js'

export interface DestinationBlock {
  readonly block: RamBlock
  /** Received and up to date. Such a page is in place, or in `zeroed`. */
  readonly received: PageBitmap
  /** Received as a zero page and not touched since: it may be missing, and is then zero. */
  readonly zeroed: PageBitmap
  /** Discarded: will be sent (again) in postcopy. */
  readonly discarded: PageBitmap
  /** Requested from the source. */
  readonly requested: PageBitmap
  /** Received by precopy when postcopy began. */
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

export function isComplete(blocks: readonly DestinationBlock[]): boolean {
  return blocks.every(({ block, received }) => received.count() === block.pageCount)
}

/**
 * Whether the source has sent all pages but those that it leaves out because they are zero.
 *
 * The checksum proves which pages are missing. They are empty, because `Placement.arm` refuses a
 * page that was neither received nor discarded. After it, only discarded pages are not received,
 * and a discard empties huge pages too. Later phases, and those of a recovery, reject ADVISE and
 * discards, so no page leaves the received bitmap again.
 *
 * @param blocks - in the order of the stream
 * @param leftOut - the value of the source's last ping, see {@link missingChecksum}
 */
export function isCompleteBut(
  blocks: readonly DestinationBlock[],
  leftOut: number | undefined,
): boolean {
  if (isComplete(blocks)) return true
  if (leftOut === undefined) return false
  return missingChecksum(blocks.map(({ received }) => received.complement())) === leftOut
}

/** Call when memory is disarmed: pages that the source has left out count as received zero pages. */
export function takeLeftOut(blocks: readonly DestinationBlock[]): void {
  for (const { block, received, zeroed } of blocks) {
    zeroed.add(received.complement())
    received.setRange(0, block.pageCount)
  }
}

/** @throws PeerError naming the first page that was not received */
export function checkComplete(blocks: readonly DestinationBlock[]): void {
  for (const { block, received } of blocks) {
    const missing = block.pageCount - received.count()
    if (missing === 0) continue
    const page = received.firstInNeither(received)
    throw new PeerError(
      'ERR_PEER_INCOMPLETE',
      `the source ended the migration, but ${missing} pages of "${block.name}" are missing, the first at ${page * TARGET_PAGE_SIZE}`,
    )
  }
}

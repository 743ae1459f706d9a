/**
 * The RAM of a destination before its pages are placed: allocated, emptied, and discarded as the source
 * says.
 */
import { PeerError } from '../errors.js'
import type { Counters } from '../migration/index.js'
import { checkDiscards, populate, type RamBlock } from '../ram/index.js'
import { TARGET_PAGE_SIZE } from '../units.js'
import type { DestinationBlock } from './block.js'

export class IncomingRam {
  readonly #blocks: readonly DestinationBlock[]
  readonly #pageCount: number
  readonly #counters: Counters
  #discardedPages = 0

  constructor(blocks: readonly DestinationBlock[], counters: Counters) {
    this.#blocks = blocks
    this.#pageCount = blocks.reduce((sum, { block }) => sum + block.pageCount, 0)
    this.#counters = counters
  }

  /**
   * Allocates huge pages before a source can connect, which takes seconds if there are many. They
   * count against a control group's limit from now on. So a shortage fails the destination while
   * the source still has the guest. Discarded pages are freed again, see placeOnce in placement.ts.
   *
   * @throws KernelError `ENOMEM`
   */
  async reserve(): Promise<void> {
    for (const { block } of this.#blocks) {
      if (isOnHugePages(block)) await populate(block.region, block.lengthBytes)
    }
  }

  /**
   * Empties all RAM, as a destination does at ADVISE (protocol section 2.1). Huge pages stay
   * allocated, with their old content: each of their target pages is later overwritten, also with
   * zeros, or discarded. `Placement.arm` refuses any other page.
   */
  empty(): void {
    for (const { block, received, zeroed } of this.#blocks) {
      if (!isOnHugePages(block)) block.region.discard(0, block.lengthBytes)
      received.clearRange(0, block.pageCount)
      zeroed.clearRange(0, block.pageCount)
    }
  }

  /** Keeps missing pages missing: a transparent huge page would fill them with zeros. */
  forbidHugePages(): void {
    for (const { block } of this.#blocks) {
      if (block.hostPages === 1) block.region.adviseHugePages('NOHUGEPAGE', block.lengthBytes)
    }
  }

  /**
   * Not for files: a discard inside one of their huge pages may only fill the range with zeros. It
   * would then not be missing in the next migration.
   */
  allowHugePages(): void {
    for (const { block } of this.#blocks) {
      if (block.region.kind === 'anon') block.region.adviseHugePages('HUGEPAGE', block.lengthBytes)
    }
  }

  /** Makes a range missing again. @throws PeerError if it is not whole host pages, or too many */
  discard(target: DestinationBlock, start: number, lengthBytes: number): void {
    const { block } = target
    if (start % block.hostPageSize !== 0 || lengthBytes % block.hostPageSize !== 0) {
      throw new PeerError(
        'ERR_PEER_DISCARD',
        `discard of ${lengthBytes} bytes at ${start} of "${block.name}" is not whole host pages of ${block.hostPageSize}`,
      )
    }
    const from = start / TARGET_PAGE_SIZE
    const to = from + lengthBytes / TARGET_PAGE_SIZE
    this.#discardedPages += to - from
    this.#counters.discardedPages = this.#discardedPages
    checkDiscards(this.#discardedPages, this.#pageCount)
    block.region.discard(start, lengthBytes)
    target.received.clearRange(from, to)
    target.zeroed.clearRange(from, to)
    target.discarded.setRange(from, to)
  }
}

function isOnHugePages({ region }: RamBlock): boolean {
  return region.pageSizeBytes > TARGET_PAGE_SIZE
}

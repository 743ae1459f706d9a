/**
 * Sends discards while the guest still runs, because the destination has to free the memory of each
 * discarded page. Pages written meanwhile are discarded in the next round. So the last round, with
 * the guest stopped, is short.
 */
import type { RamRange } from '../migration/index.js'
import type { PageBitmap, TrackedBlock } from '../ram/index.js'
import { TARGET_PAGE_SIZE } from '../units.js'
import { encodeDiscards } from './elements.js'
import type { SourceLink } from './link.js'

/** Stop announcing when fewer pages than this remain in a block. */
const FEW_PAGES = 64

/** Target pages of a block. */
export interface TrackedRange {
  readonly tracked: TrackedBlock
  readonly first: number
  readonly end: number
}

/**
 * The target pages of `ranges`, only in blocks whose host page is one target page. A larger host
 * page would be sent in part now, and as a whole again later.
 */
export function trackedRanges(
  blocks: readonly TrackedBlock[],
  ranges: readonly RamRange[],
): TrackedRange[] {
  return ranges.flatMap(({ block: name, offset, lengthBytes }) => {
    const tracked = blocks.find(({ block }) => block.name === name && block.hostPages === 1)
    if (tracked === undefined) return []
    const first = offset / TARGET_PAGE_SIZE
    return [{ tracked, first, end: first + lengthBytes / TARGET_PAGE_SIZE }]
  })
}

export class DiscardAnnouncer {
  readonly #blocks: readonly TrackedBlock[]
  #loadRanges: readonly TrackedRange[]
  /**
   * By block, the pages already discarded at the destination; they stay dirty until they are sent.
   */
  #announced: readonly PageBitmap[] | undefined

  /**
   * @param loadRanges - sent after the guest is stopped; discarded only in the last round, if still
   *   owed
   */
  constructor(blocks: readonly TrackedBlock[], loadRanges: readonly TrackedRange[]) {
    this.#blocks = blocks
    this.#loadRanges = loadRanges
  }

  /** Discards the dirty pages that were not discarded before. */
  announce(link: SourceLink): void {
    const fresh = this.#unannounced()
    link.write(encodeDiscards(fresh))
    const before = this.#announced
    this.#announced = fresh.map(({ dirty }, index) => {
      const earlier = before?.[index]
      if (earlier !== undefined) dirty.add(earlier)
      return dirty
    })
  }

  /** Discards the remaining pages, after the guest is stopped. */
  announceRest(link: SourceLink): void {
    this.#loadRanges = []
    link.write(encodeDiscards(this.#unannounced()))
  }

  /** Whether another round before the stop would find few pages. */
  get isNearlyDone(): boolean {
    if (this.#announced === undefined) return false
    return this.#unannounced().every(({ dirty }) => dirty.count() < FEW_PAGES)
  }

  #unannounced(): TrackedBlock[] {
    return this.#blocks.map(({ block, dirty }, index) => {
      dirty.roundOut(block.hostPages)
      const fresh = dirty.copy()
      const announced = this.#announced?.[index]
      if (announced !== undefined) fresh.remove(announced)
      for (const { tracked, first, end } of this.#loadRanges) {
        if (tracked.block === block) fresh.clearRange(first, end)
      }
      return { block, dirty: fresh }
    })
  }
}

/**
 * Page requests that wait, in the order they came. A peer cannot make the queue longer than RAM:
 * what waits already is not queued again, and neither is what is not owed any more. So many
 * requests wait in order; what comes on top is remembered by a bit a page, and served behind them.
 */
import { PageBitmap, type TrackedBlock } from '../ram/index.js'

/** A destination has one for each thread that waits. */
const MOST_IN_ORDER = 65_536

export interface PageRequest {
  readonly tracked: TrackedBlock
  /** First target page of the host page. */
  readonly page: number
}

/** Target pages of one block, from the next that may be owed on. */
interface Range {
  readonly tracked: TrackedBlock
  readonly first: number
  next: number
  readonly end: number
}

export class PageQueue {
  #ranges: Range[] = []
  #head = 0
  /** By block, the pages that wait. */
  readonly #queued: ReadonlyMap<TrackedBlock, PageBitmap>
  /** Some wait that are in no range. */
  #hasMore = false

  constructor(blocks: readonly TrackedBlock[]) {
    this.#queued = new Map(
      blocks.map((tracked) => [tracked, new PageBitmap(tracked.block.pageCount)]),
    )
  }

  /** Requests that wait in order; 0 only where none wait at all. */
  get length(): number {
    return this.#ranges.length - this.#head
  }

  /** Whole host pages `[first, end)`, in target pages. */
  add(tracked: TrackedBlock, first: number, end: number): void {
    const queued = this.#queued.get(tracked)
    if (queued === undefined || queued.all(first, end)) return
    if (tracked.dirty.next(first, end) === -1) return
    queued.setRange(first, end)
    if (this.length < MOST_IN_ORDER) this.#ranges.push({ tracked, first, next: first, end })
    else this.#hasMore = true
  }

  /** The next host page that is asked for and still owed; the same again until it was sent. */
  peek(): PageRequest | undefined {
    for (let range = this.#first(); range !== undefined; range = this.#first()) {
      const { tracked, next, end } = range
      const page = tracked.dirty.next(next, end)
      if (page !== -1) {
        const { hostPages } = tracked.block
        range.next = page - (page % hostPages)
        return { tracked, page: range.next }
      }
      this.#drop(range)
    }
    return undefined
  }

  #first(): Range | undefined {
    if (this.length === 0 && this.#hasMore) this.#fetchMore()
    return this.#ranges[this.#head]
  }

  #drop({ tracked, first, end }: Range): void {
    this.#queued.get(tracked)?.clearRange(first, end)
    this.#head += 1
    if (this.#head * 2 < this.#ranges.length) return
    this.#ranges.splice(0, this.#head)
    this.#head = 0
  }

  /** None waits in order: the pages that wait are those that came on top. */
  #fetchMore(): void {
    for (const [tracked, queued] of this.#queued) {
      for (const [first, end] of queued.runs()) {
        if (this.length === MOST_IN_ORDER) return
        this.#ranges.push({ tracked, first, next: first, end })
      }
    }
    this.#hasMore = false
  }
}

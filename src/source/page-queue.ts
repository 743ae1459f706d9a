/**
 * Waiting page requests, in order of arrival. A peer cannot make the queue longer than RAM: pages
 * that already wait are not queued. The number of ordered requests is limited. Further requests are
 * kept as one bit per page, and served after the ordered ones.
 */
import { PageBitmap, type TrackedBlock } from '../ram/index.js'

/** A destination has one request per waiting thread. */
const MOST_IN_ORDER = 65_536

export interface PageRequest {
  readonly tracked: TrackedBlock
  /** First target page of the host page. */
  readonly page: number
}

/** A range of target pages in one block; `next` is the first that may still be owed. */
interface Range {
  readonly tracked: TrackedBlock
  next: number
  readonly end: number
}

export class PageQueue {
  #ranges: Range[] = []
  #head = 0
  /** By block, the pages that wait, and perhaps pages of waiting ranges that are no longer owed. */
  readonly #queued: ReadonlyMap<TrackedBlock, PageBitmap>
  /** Some waiting pages are in no range. */
  #hasMore = false

  constructor(blocks: readonly TrackedBlock[]) {
    this.#queued = new Map(
      blocks.map((tracked) => [tracked, new PageBitmap(tracked.block.pageCount)]),
    )
  }

  /** Number of ordered requests; 0 only if no page waits at all. */
  get length(): number {
    return this.#ranges.length - this.#head
  }

  /**
   * Adds the whole host pages `[first, end)`, in target pages. Before a recovery knows what is owed,
   * they may seem not to be.
   */
  add(tracked: TrackedBlock, first: number, end: number): void {
    const queued = this.#queued.get(tracked)
    if (queued === undefined || queued.all(first, end)) return
    queued.setRange(first, end)
    if (this.length < MOST_IN_ORDER) this.#ranges.push({ tracked, next: first, end })
    else this.#hasMore = true
  }

  /** The next requested host page that is still owed. Returns the same page until it was sent. */
  peek(): PageRequest | undefined {
    for (let range = this.#first(); range !== undefined; range = this.#first()) {
      const { tracked, next, end } = range
      const page = tracked.dirty.next(next, end)
      if (page !== -1) {
        const { hostPages } = tracked.block
        this.#advance(range, page - (page % hostPages))
        return { tracked, page: range.next }
      }
      this.#drop(range)
    }
    return undefined
  }

  /** Runs of pages of a block that wait, also of pages that are no longer owed. */
  waiting(tracked: TrackedBlock): Iterable<readonly [first: number, end: number]> {
    return this.#queued.get(tracked)?.runs() ?? []
  }

  /** Takes the page of {@link peek} out of the queue; it may be added again. */
  setAside({ tracked, page }: PageRequest): void {
    const range = this.#ranges[this.#head]
    if (range === undefined) return
    this.#advance(range, page + tracked.block.hostPages)
    if (range.next >= range.end) this.#drop(range)
  }

  /** The pages before `next` do not wait any more, unless they are added again. */
  #advance(range: Range, next: number): void {
    this.#queued.get(range.tracked)?.clearRange(range.next, next)
    range.next = next
  }

  #first(): Range | undefined {
    if (this.length === 0 && this.#hasMore) this.#fetchMore()
    return this.#ranges[this.#head]
  }

  #drop({ tracked, next, end }: Range): void {
    this.#queued.get(tracked)?.clearRange(Math.min(next, end), end)
    this.#head += 1
    if (this.#head * 2 < this.#ranges.length) return
    this.#ranges.splice(0, this.#head)
    this.#head = 0
  }

  /** Call when no ordered request is left: turns the remaining bits into ordered requests. */
  #fetchMore(): void {
    for (const [tracked, queued] of this.#queued) {
      for (const [first, end] of queued.runs()) {
        if (this.length === MOST_IN_ORDER) return
        this.#ranges.push({ tracked, next: first, end })
      }
    }
    this.#hasMore = false
  }
}

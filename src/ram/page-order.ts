/**
 * Pages in an order, each once: runs of neighbours, in shared memory, so that one thread adds to
 * what another looks at.
 *
 * ```
 * u64   runs (the low word counts)
 * f64   block, first page, pages    a run each
 * ```
 */
import { TARGET_PAGE_SIZE } from '../units.js'
import { PageBitmap } from './page-bitmap.js'

/** Runs that are kept; what comes on top is not. No two neighbours among them: 4 GiB. */
export const MOST_RUNS = 2 ** 20

const HEAD_BYTES = 8
const RUN_NUMBERS = 3

export class PageOrder {
  /** Give it to another thread: a PageOrder over the same blocks and this looks at the same pages. */
  readonly buffer: SharedArrayBuffer
  readonly #count: Int32Array
  readonly #runs: Float64Array
  readonly #most: number
  /** By block, the pages that are in; known to whoever adds. */
  readonly #known: readonly PageBitmap[]

  /**
   * An empty one, or another view of one that is there. Only one of the views may be added to.
   *
   * @param blocks - those of the machine, in its order; whole target pages each
   */
  constructor(blocks: readonly { readonly lengthBytes: number }[], buffer?: SharedArrayBuffer) {
    this.#known = blocks.map(({ lengthBytes }) => new PageBitmap(lengthBytes / TARGET_PAGE_SIZE))
    const pages = this.#known.reduce((sum, { pageCount }) => sum + pageCount, 0)
    this.#most = Math.min(pages, MOST_RUNS)
    const numbers = this.#most * RUN_NUMBERS
    this.buffer = buffer ?? new SharedArrayBuffer(HEAD_BYTES + numbers * 8)
    this.#count = new Int32Array(this.buffer, 0, 1)
    this.#runs = new Float64Array(this.buffer, HEAD_BYTES, numbers)
    for (let run = 0; run < this.runCount; run += 1) {
      const first = this.first(run)
      this.#known[this.block(run)]?.setRange(first, first + this.count(run))
    }
  }

  get runCount(): number {
    return Atomics.load(this.#count, 0)
  }

  /** Target pages, in all runs. */
  get pageCount(): number {
    let sum = 0
    for (let run = 0; run < this.runCount; run += 1) sum += this.count(run)
    return sum
  }

  /** Index of the run's block. */
  block(run: number): number {
    return this.#runs[run * RUN_NUMBERS] ?? 0
  }

  /** First target page of the run. */
  first(run: number): number {
    return this.#runs[run * RUN_NUMBERS + 1] ?? 0
  }

  /** Target pages of the run. */
  count(run: number): number {
    return this.#runs[run * RUN_NUMBERS + 2] ?? 0
  }

  /** Whether each is of as many pages as its block here. */
  fits(blocks: readonly { readonly lengthBytes: number }[]): boolean {
    return (
      blocks.length === this.#known.length &&
      blocks.every(({ lengthBytes }, index) => {
        return this.#known[index]?.pageCount === lengthBytes / TARGET_PAGE_SIZE
      })
    )
  }

  /** Adds those of the target pages `[first, end)` that are not in, as long as there is room. */
  add(block: number, first: number, end: number): void {
    const known = this.#known[block]
    if (known === undefined || known.all(first, end)) return
    for (let page = first; page < end;) {
      const next = known.next(page, end)
      const stop = next === -1 ? end : next
      if (stop > page) this.#append(block, page, stop)
      page = stop
      while (page < end && known.test(page)) page += 1
    }
    known.setRange(first, end)
  }

  /** Adds what is not in of another order over the same blocks. */
  addAll(other: PageOrder): void {
    for (let run = 0; run < other.runCount; run += 1) {
      const first = other.first(run)
      this.add(other.block(run), first, first + other.count(run))
    }
  }

  /** The runs as plain numbers: block, first page, pages, and so on. */
  toArray(): number[] {
    return Array.from(this.#runs.subarray(0, this.runCount * RUN_NUMBERS))
  }

  #append(block: number, first: number, end: number): void {
    const last = this.runCount - 1
    if (last >= 0 && this.block(last) === block && this.first(last) + this.count(last) === first) {
      this.#runs[last * RUN_NUMBERS + 2] = end - this.first(last)
      return
    }
    const run = last + 1
    if (run === this.#most) return
    this.#runs.set([block, first, end - first], run * RUN_NUMBERS)
    // Behind the run itself: who looks sees whole ones.
    Atomics.store(this.#count, 0, run + 1)
  }
}

/**
 * An ordered set of pages, stored as runs of adjacent pages. It lies in shared memory: one thread
 * adds runs while another reads them.
 *
 * ```
 * u64   runs (the low word counts)
 * f64   block, first page, pages    three numbers for each run
 * ```
 */
import { TARGET_PAGE_SIZE } from '../units.js'
import { PageBitmap } from './page-bitmap.js'

/** Most runs; later ones are dropped. If each run is a single page, they cover 4 GiB. */
export const MOST_RUNS = 2 ** 20

const HEAD_BYTES = 8
const RUN_NUMBERS = 3

export class PageOrder {
  /** Lets another thread, which knows the same blocks, construct a view of the same pages. */
  readonly buffer: SharedArrayBuffer
  readonly #count: Int32Array
  readonly #runs: Float64Array
  readonly #most: number
  /** By block, the pages in the order. Only the view that adds pages keeps it up to date. */
  readonly #known: readonly PageBitmap[]

  /**
   * Makes an empty order, or another view of an existing one. Only one of the views may add pages.
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

  /** Target pages in all runs. */
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

  /** Whether `blocks` have the same page counts, in the same order, as the blocks here. */
  fits(blocks: readonly { readonly lengthBytes: number }[]): boolean {
    return (
      blocks.length === this.#known.length &&
      blocks.every(({ lengthBytes }, index) => {
        return this.#known[index]?.pageCount === lengthBytes / TARGET_PAGE_SIZE
      })
    )
  }

  /** Adds the target pages of `[first, end)` that are not in yet, as long as there is room. */
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

  /** Adds the pages of another order over the same blocks that are not in this one. */
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
    // Stored after the run itself: a reader sees only complete runs.
    Atomics.store(this.#count, 0, run + 1)
  }
}

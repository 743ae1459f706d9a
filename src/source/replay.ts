/**
 * Pushes the pages that an earlier migration recorded as requested, in that order, before they are
 * requested again. Records the requests that arrive in spite of that.
 */
import { PageOrder, type TrackedBlock } from '../ram/index.js'

/** Target pages of whole host pages. */
export interface ReplayRun {
  readonly tracked: TrackedBlock
  readonly first: number
  readonly end: number
}

export class Replay {
  readonly #order: PageOrder
  readonly #blocks: readonly TrackedBlock[]
  /** Later runs are pages recorded by this source: they were requested, and need no push. */
  readonly #runCount: number
  #run = 0
  /** Pages of the current run that are known to be sent. */
  #sent = 0

  /**
   * @param buffer - of a {@link PageOrder} over these blocks, if there is one; new requests are
   *   added
   */
  static of(
    buffer: SharedArrayBuffer | undefined,
    blocks: readonly TrackedBlock[],
  ): Replay | undefined {
    return buffer === undefined ? undefined : new Replay(buffer, blocks)
  }

  private constructor(buffer: SharedArrayBuffer, blocks: readonly TrackedBlock[]) {
    const order = new PageOrder(
      blocks.map(({ block }) => block),
      buffer,
    )
    this.#order = order
    this.#blocks = blocks
    this.#runCount = order.runCount
  }

  /** Records a request for the whole host pages `[first, end)`, in target pages. */
  note(tracked: TrackedBlock, first: number, end: number): void {
    this.#order.add(this.#blocks.indexOf(tracked), first, end)
  }

  /** All runs. */
  *runs(): Generator<ReplayRun> {
    for (let run = 0; run < this.#runCount; run += 1) {
      const found = this.#at(run)
      if (found !== undefined) yield found
    }
  }

  /** The next run, from its first page that is still owed; undefined if nothing is left to push. */
  peek(): ReplayRun | undefined {
    for (; this.#run < this.#runCount; this.#run += 1, this.#sent = 0) {
      const run = this.#at(this.#run)
      if (run === undefined) continue
      const { tracked, first, end } = run
      const page = tracked.dirty.next(first + this.#sent, end)
      if (page === -1) continue
      this.#sent = page - (page % tracked.block.hostPages) - first
      return { tracked, first: first + this.#sent, end }
    }
    return undefined
  }

  #at(run: number): ReplayRun | undefined {
    const tracked = this.#blocks[this.#order.block(run)]
    if (tracked === undefined) return undefined
    const { hostPages } = tracked.block
    const first = this.#order.first(run)
    // Host pages may be larger here than where the order was recorded.
    const end = Math.ceil((first + this.#order.count(run)) / hostPages) * hostPages
    return { tracked, first: first - (first % hostPages), end }
  }
}

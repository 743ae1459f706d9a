/**
 * Pushes the pages that were asked for another time, in the order in which they were, before
 * anybody asks; and notes what is asked for in spite of it.
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
  /** What is noted from now on has been asked for: nobody needs to push it. */
  readonly #runCount: number
  #run = 0
  /** Pages of the present run that are known to be sent. */
  #sent = 0

  /** @param buffer - of a {@link PageOrder} over these blocks, where there is one; is added to */
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

  /** Whole host pages `[first, end)` were asked for, in target pages. */
  note(tracked: TrackedBlock, first: number, end: number): void {
    this.#order.add(this.#blocks.indexOf(tracked), first, end)
  }

  /** What is next, from a page on that is still owed; undefined: nothing is left to push. */
  peek(): ReplayRun | undefined {
    for (; this.#run < this.#runCount; this.#run += 1, this.#sent = 0) {
      const tracked = this.#blocks[this.#order.block(this.#run)]
      if (tracked === undefined) continue
      const { hostPages } = tracked.block
      const first = this.#order.first(this.#run)
      // Host pages may be larger here than where it was noted.
      const start = first - (first % hostPages)
      const end = Math.ceil((first + this.#order.count(this.#run)) / hostPages) * hostPages
      const page = tracked.dirty.next(start + this.#sent, end)
      if (page === -1) continue
      this.#sent = page - (page % hostPages) - start
      return { tracked, first: start + this.#sent, end }
    }
    return undefined
  }
}

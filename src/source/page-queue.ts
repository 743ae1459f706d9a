/** Page requests that wait: each host page at most once, in the order they were asked for. */
import type { TrackedBlock } from '../ram/dirty-log.js'

export interface PageRequest {
  readonly tracked: TrackedBlock
  /** First target page of the host page. */
  readonly page: number
}

export class PageQueue {
  #requests: PageRequest[] = []
  #head = 0
  readonly #queued = new Set<string>()

  get length(): number {
    return this.#requests.length - this.#head
  }

  /** Ignores what waits already, so that a peer cannot make the queue longer than RAM. */
  add(request: PageRequest): void {
    const key = keyOf(request)
    if (this.#queued.has(key)) return
    this.#queued.add(key)
    this.#requests.push(request)
  }

  peek(): PageRequest | undefined {
    return this.#requests[this.#head]
  }

  /** Drops the first one. */
  take(): void {
    const request = this.peek()
    if (request === undefined) return
    this.#queued.delete(keyOf(request))
    this.#head += 1
    if (this.#head * 2 < this.#requests.length) return
    this.#requests.splice(0, this.#head)
    this.#head = 0
  }
}

function keyOf({ tracked, page }: PageRequest): string {
  return `${page}:${tracked.block.name}`
}

/** How long all vCPUs waited for pages at the same time: the guest stood still. */
export class AllBlocked {
  #vcpus: readonly number[] = []
  /** Kernel thread ids of those who wait now. */
  readonly #waiting = new Set<number>()
  /** Milliseconds on the clock of {@link begin}; undefined while one of them can run. */
  #since: number | undefined
  #totalMs = 0

  /** Threads that wait already are counted from the next one on that begins to. */
  set vcpus(threadIds: readonly number[]) {
    this.#vcpus = threadIds
  }

  get totalMs(): number {
    return this.#totalMs
  }

  begin(threadId: number, atMs: number): void {
    this.#waiting.add(threadId)
    if (this.#since !== undefined || this.#vcpus.length === 0) return
    if (this.#vcpus.every((id) => this.#waiting.has(id))) this.#since = atMs
  }

  end(threadId: number, atMs: number): void {
    this.#waiting.delete(threadId)
    if (this.#since === undefined || !this.#vcpus.includes(threadId)) return
    this.#totalMs += Math.max(0, atMs - this.#since)
    this.#since = undefined
  }
}

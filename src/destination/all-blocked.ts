/** The total time during which all vCPUs waited for pages at once: the guest did not run at all. */
export class AllBlocked {
  #vcpus: readonly number[] = []
  /** Kernel thread ids of the threads that wait now. */
  readonly #waiting = new Set<number>()
  /** Milliseconds on the clock of {@link begin}; undefined while a vCPU can run. */
  #since: number | undefined
  #totalMs = 0

  /** Threads already blocked are counted from the next fault on. */
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

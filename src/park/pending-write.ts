/** One write in flight, so that the next bytes are prepared meanwhile. */
export class PendingWrite {
  #last: Promise<void> = Promise.resolve()

  /**
   * Waits until the previous write has ended, then starts this one.
   *
   * @throws Error of the previous write
   */
  async start(write: () => Promise<void>): Promise<void> {
    await this.#last
    this.#last = write()
    // Its error is thrown by the next call.
    this.#last.catch(() => undefined)
  }

  /** Waits until the last write has ended. @throws its error */
  async end(): Promise<void> {
    await this.#last
  }

  /** Waits until the last write has ended, whether it has failed or not. */
  async settle(): Promise<void> {
    await this.#last.catch(() => undefined)
  }
}

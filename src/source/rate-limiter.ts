/** Keeps a stream under a number of bytes a second, with bursts of one slice as QEMU has. */
const SLICE_MS = 100

export class RateLimiter {
  /** Sent and not yet paid for by time. */
  #debtBytes = 0
  #paidUntil = performance.now()

  account(bytes: number): void {
    this.#debtBytes += bytes
  }

  /**
   * @param bytesPerSecond - 0 is no limit
   * @returns milliseconds to wait before more is sent, at most a slice; 0 to go on
   */
  waitMs(bytesPerSecond: number): number {
    const elapsed = performance.now() - this.#paidUntil
    this.#paidUntil += elapsed
    if (bytesPerSecond === 0) {
      this.#debtBytes = 0
      return 0
    }
    const bytesPerMs = bytesPerSecond / 1000
    this.#debtBytes = Math.max(0, this.#debtBytes - elapsed * bytesPerMs)
    const tooMuch = this.#debtBytes - SLICE_MS * bytesPerMs
    return tooMuch < 0 ? 0 : Math.min(SLICE_MS, Math.ceil(tooMuch / bytesPerMs) + 1)
  }
}

/** Bytes a second over the last stretch of at least {@link SLICE_MS}. */
export class RateMeter {
  #since = performance.now()
  #bytes = 0
  bytesPerSecond = 0

  add(bytes: number): void {
    this.#bytes += bytes
    const elapsed = performance.now() - this.#since
    if (elapsed < SLICE_MS) return
    this.bytesPerSecond = (this.#bytes * 1000) / elapsed
    this.#since += elapsed
    this.#bytes = 0
  }
}

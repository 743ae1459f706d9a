/** Limits a stream to a number of bytes per second, with bursts of one slice as in QEMU. */
const SLICE_MS = 100

export class RateLimiter {
  /** Bytes sent in excess of the rate so far. */
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

/** Bytes per second over the last span of at least {@link SLICE_MS}. */
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

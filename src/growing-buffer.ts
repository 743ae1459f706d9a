const FIRST_BYTES = 64 * 1024

/**
 * Collects a long payload as it arrives. Its memory follows the received bytes, not the announced
 * length: a peer that announces 4 GiB and sends nothing costs 64 KiB.
 */
export class GrowingBuffer {
  /** Bytes stored so far. */
  length = 0
  #bytes: Uint8Array<ArrayBuffer>
  readonly #capacityBytes: number

  /** @param capacityBytes - the announced length, or a limit if none was announced */
  constructor(capacityBytes: number) {
    this.#capacityBytes = capacityBytes
    this.#bytes = new Uint8Array(Math.min(capacityBytes, FIRST_BYTES))
  }

  /** Takes `bytes[start..end)`, up to the capacity; returns how many bytes it took. */
  append(bytes: Uint8Array, start: number, end: number): number {
    const count = Math.min(end - start, this.#capacityBytes - this.length)
    const needed = this.length + count
    if (needed > this.#bytes.length) {
      const grown = new Uint8Array(
        Math.min(this.#capacityBytes, Math.max(needed, this.#bytes.length * 2)),
      )
      grown.set(this.#bytes.subarray(0, this.length))
      this.#bytes = grown
    }
    this.#bytes.set(bytes.subarray(start, start + count), this.length)
    this.length = needed
    return count
  }

  get isFull(): boolean {
    return this.length === this.#capacityBytes
  }

  /** The stored bytes, as a view that the next append may invalidate. */
  peek(): Uint8Array<ArrayBuffer> {
    return this.#bytes.subarray(0, this.length)
  }

  /** The stored bytes `[start, end)`, in a buffer of exactly that length. */
  take(start = 0, end = this.length): Uint8Array<ArrayBuffer> {
    const isWhole = start === 0 && end === this.#bytes.length
    return isWhole ? this.#bytes : this.#bytes.slice(start, end)
  }
}

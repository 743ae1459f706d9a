/**
 * Keeps short what stands before a requested page. Socket buffers on both ends hold megabytes
 * that have been sent and not been placed; a ping behind each batch tells, by its pong, how much
 * that is. QEMU answers pings at any time (protocol section 2).
 */

/** Ping values from here on are ours to count with; QEMU's own are small. */
const FIRST_PING = 0x1_0000
const LAST_PING = 0xffff_ffff

export class PushWindow {
  #sentBytes = 0
  #placedBytes = 0
  #nextPing = FIRST_PING
  /** Pings on their way, in order, with what had been sent when they were. */
  #pending: { readonly ping: number; readonly sentBytes: number }[] = []

  /** Sent and not placed, in bytes. */
  get outstandingBytes(): number {
    return this.#sentBytes - this.#placedBytes
  }

  /** @returns the value of the ping to send behind these bytes */
  sent(bytes: number): number {
    this.#sentBytes += bytes
    const ping = this.#nextPing
    this.#nextPing = ping === LAST_PING ? FIRST_PING : ping + 1
    this.#pending.push({ ping, sentBytes: this.#sentBytes })
    return ping
  }

  /** Takes a pong; those of other pings are ignored. */
  acknowledge(value: number): void {
    const index = this.#pending.findIndex(({ ping }) => ping === value)
    if (index === -1) return
    this.#placedBytes = this.#pending[index]?.sentBytes ?? this.#placedBytes
    this.#pending.splice(0, index + 1)
  }
}

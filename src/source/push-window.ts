/**
 * Keeps short what stands before a requested page. Socket buffers on both ends hold megabytes
 * that have been sent and not been placed; a ping behind each batch tells, by its pong, how much
 * that is, how long it takes and how fast it shrinks. QEMU answers pings at any time (protocol
 * section 2).
 *
 * What may be on its way is what the link and the destination take in one round trip, and a
 * little more: that keeps them busy, and is how the window learns that they could take more.
 */

/** Ping values from here on are ours to count with; QEMU's own are small. */
const FIRST_PING = 0x1_0000
const LAST_PING = 0xffff_ffff

/** Two pages with their records and a ping: less would not keep any link busy. */
const LEAST_WINDOW_BYTES = 9 * 1024
/** Before anything is known: little, so that the first round trip is a short one. */
const FIRST_WINDOW_BYTES = 4 * LEAST_WINDOW_BYTES
/** What is on its way, in round trips: only more than one shows whether the link takes more. */
const HEADROOM = 1.5
/** How long the fastest rate seen counts. */
const RATE_MEMORY_MS = 100
/**
 * How long the shortest round trip seen counts. Then there is a pause, until nothing is on its way:
 * round trips behind a queue of our own would make the queue longer and longer.
 */
const ROUND_TRIP_MEMORY_MS = 5000

interface Ping {
  readonly value: number
  /** When it was sent, with what had been sent and placed by then. */
  readonly atMs: number
  readonly sentBytes: number
  readonly placedBytes: number
}

export class PushWindow {
  #sentBytes = 0
  #placedBytes = 0
  #nextPing = FIRST_PING
  /** Pings on their way, in order. */
  #pending: Ping[] = []
  /** When something was sent or placed last. */
  #newsAtMs = -Infinity
  readonly #bytesPerMs = new Recent(Math.max, RATE_MEMORY_MS)
  readonly #roundTripMs = new Recent(Math.min, ROUND_TRIP_MEMORY_MS)
  #isPausing = false

  /** Sent and not placed, in bytes. */
  get outstandingBytes(): number {
    return this.#sentBytes - this.#placedBytes
  }

  /** Sent behind the last ping. */
  get unpingedBytes(): number {
    return this.#sentBytes - Math.max(this.#placedBytes, this.#pending.at(-1)?.sentBytes ?? 0)
  }

  /** A ping is on its way. */
  get isPinging(): boolean {
    return this.#pending.length > 0
  }

  /** These bytes were sent without a ping; the next one stands behind them, too. */
  count(bytes: number): void {
    this.#sentBytes += bytes
  }

  /** @returns the value of the ping to send behind these bytes */
  sent(bytes: number, atMs: number): number {
    const placedBytes = this.#placedBytes
    this.#sentBytes += bytes
    const value = this.#nextPing
    this.#nextPing = value === LAST_PING ? FIRST_PING : value + 1
    this.#newsAtMs = atMs
    this.#pending.push({ value, atMs, sentBytes: this.#sentBytes, placedBytes })
    return value
  }

  /** Takes a pong; those of other pings are ignored. */
  acknowledge(value: number, atMs: number): void {
    const index = this.#pending.findIndex((ping) => ping.value === value)
    const ping = this.#pending[index]
    if (ping === undefined) return
    this.#pending.splice(0, index + 1)
    this.#placedBytes = ping.sentBytes
    this.#newsAtMs = atMs
    const roundTripMs = atMs - ping.atMs
    if (roundTripMs <= 0) return
    if (this.#roundTripMs.add(roundTripMs, atMs)) this.#isPausing = true
    if (this.outstandingBytes === 0) this.#isPausing = false
    this.#bytesPerMs.add((this.#placedBytes - ping.placedBytes) / roundTripMs, atMs)
  }

  /** Nothing was sent or placed for so long, as if pings were not answered. */
  isStalled(forMs: number, atMs: number): boolean {
    return atMs - this.#newsAtMs >= forMs
  }

  /**
   * How many bytes may be on their way so that a page that is asked for now waits for others no
   * longer than `queueMs`.
   */
  bytesFor(queueMs: number): number {
    const rate = this.#bytesPerMs.value
    const roundTripMs = this.#roundTripMs.value
    if (this.#isPausing) return 0
    if (rate === undefined || roundTripMs === undefined) return FIRST_WINDOW_BYTES
    return Math.max(LEAST_WINDOW_BYTES, rate * (roundTripMs * HEADROOM + queueMs))
  }
}

/** The largest or smallest of the values of the last while, forgotten in two steps. */
class Recent {
  readonly #better: (a: number, b: number) => number
  readonly #memoryMs: number
  #since = -Infinity
  #value: number | undefined
  #before: number | undefined

  constructor(better: (a: number, b: number) => number, memoryMs: number) {
    this.#better = better
    this.#memoryMs = memoryMs
  }

  get value(): number | undefined {
    return this.#both(this.#value, this.#before)
  }

  /** @returns whether something was forgotten */
  add(value: number, atMs: number): boolean {
    const isOld = atMs - this.#since > this.#memoryMs
    if (isOld) {
      this.#before = this.#value
      this.#value = undefined
      this.#since = atMs
    }
    this.#value = this.#both(this.#value, value)
    return isOld && this.#before !== undefined
  }

  #both(a: number | undefined, b: number | undefined): number | undefined {
    if (a === undefined) return b
    return b === undefined ? a : this.#better(a, b)
  }
}

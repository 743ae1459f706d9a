/**
 * Keeps short what stands before a requested page. Socket buffers on both ends hold megabytes
 * that have been sent and not been placed; pings among them tell, by their pongs, how much that
 * is, how long it takes and how fast it shrinks. QEMU answers pings at any time (protocol
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
 * A link is slow that has passed less than 2 Gbit/s for so long, although more was there to be sent.
 * Each rate is taken over so much time, since buffers let bursts pass.
 */
const SLOW_BYTES_PER_MS = 250_000
const SUSTAINED_SPAN_MS = 8
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

/** What was known to be placed, and since when. */
interface Mark {
  readonly atMs: number
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
  /** Of round trips: what link and destination can take. */
  readonly #rate = new Recent(Math.max, RATE_MEMORY_MS)
  /** Of longer spans in which there was no room for more. */
  readonly #sustained = new Recent(Math.max, RATE_MEMORY_MS)
  /** The last one that is {@link SUSTAINED_SPAN_MS} old, and all behind it. */
  #marks: Mark[] = []
  /** When there was no room last. */
  #fullAtMs = -Infinity
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

  /** The link is what limits the push, not those who fill it and empty it. */
  get isSlow(): boolean {
    return this.#sustained.isSettled && (this.#sustained.value ?? 0) < SLOW_BYTES_PER_MS
  }

  /** A ping is on its way. */
  get isPinging(): boolean {
    return this.#pending.length > 0
  }

  /** Something waits for room. */
  full(atMs: number): void {
    this.#fullAtMs = atMs
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
    this.#rate.add((this.#placedBytes - ping.placedBytes) / roundTripMs, atMs)
    this.#sustain(atMs)
  }

  #sustain(atMs: number): void {
    this.#marks.push({ atMs, placedBytes: this.#placedBytes })
    const recent = this.#marks.findIndex((mark) => atMs - mark.atMs < SUSTAINED_SPAN_MS)
    if (recent > 1) this.#marks.splice(0, recent - 1)
    const since = this.#marks[0]
    if (since === undefined || recent < 1 || this.#fullAtMs < since.atMs) return
    this.#sustained.add((this.#placedBytes - since.placedBytes) / (atMs - since.atMs), atMs)
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
    const rate = this.isSlow ? this.#sustained.value : this.#rate.value
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

  /** It has been added to for longer than it remembers. */
  get isSettled(): boolean {
    return this.#before !== undefined
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

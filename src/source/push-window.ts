/**
 * Limits how many bytes precede a requested page. The socket buffers of both ends hold megabytes
 * that were sent but not placed. Pings among the pages measure, by their pongs, how many bytes
 * these are, how long they take, and how fast they drain. QEMU answers pings at any time (protocol
 * section 2).
 *
 * The window is what the link and the destination take in one round trip, and a little more. That
 * keeps both busy, and shows whether they could take more.
 */

/** Our ping values start here; QEMU's own are small. */
const FIRST_PING = 0x1_0000
const LAST_PING = 0xffff_ffff

/** Two pages with their records and a ping: less keeps no link busy. */
const LEAST_WINDOW_BYTES = 9 * 1024
/** Initial window before any measurement: small, so that the first round trip is short. */
const FIRST_WINDOW_BYTES = 4 * LEAST_WINDOW_BYTES
/** Window in round trips: only a value above 1 shows whether the link could take more. */
const HEADROOM = 1.5
/** How long the fastest measured rate counts. */
const RATE_MEMORY_MS = 100
/**
 * "Slow": below 2 Gbit/s while continuously backlogged. Each rate is measured over this span,
 * because buffers absorb bursts.
 */
const SLOW_BYTES_PER_MS = 250_000
const SUSTAINED_SPAN_MS = 8
/**
 * How long the shortest measured round trip counts. After that the push pauses until nothing is in
 * flight. Otherwise round trips through our own queue would make the queue grow without end.
 */
const ROUND_TRIP_MEMORY_MS = 5000

interface Ping {
  readonly value: number
  /** When the ping was sent, and how many bytes had been sent and placed by then. */
  readonly atMs: number
  readonly sentBytes: number
  readonly placedBytes: number
}

/** How many bytes were known to be placed, and since when. */
interface Mark {
  readonly atMs: number
  readonly placedBytes: number
}

export class PushWindow {
  #sentBytes = 0
  #placedBytes = 0
  #nextPing = FIRST_PING
  /** Unanswered pings, in order. */
  #pending: Ping[] = []
  /** When bytes were last sent or known to be placed. */
  #newsAtMs = -Infinity
  /** Rate per round trip: what the link and the destination can take. */
  readonly #rate = new Recent(Math.max, RATE_MEMORY_MS)
  /** Rate over longer spans in which the window was full. */
  readonly #sustained = new Recent(Math.max, RATE_MEMORY_MS)
  /** The newest mark older than {@link SUSTAINED_SPAN_MS}, and all marks after it. */
  #marks: Mark[] = []
  /** When the window was last full. */
  #fullAtMs = -Infinity
  readonly #roundTripMs = new Recent(Math.min, ROUND_TRIP_MEMORY_MS)
  #isPausing = false

  /** Bytes sent but not known to be placed. */
  get outstandingBytes(): number {
    return this.#sentBytes - this.#placedBytes
  }

  /** Bytes sent after the last ping. */
  get unpingedBytes(): number {
    return this.#sentBytes - Math.max(this.#placedBytes, this.#pending.at(-1)?.sentBytes ?? 0)
  }

  /** The link limits the push, not the ends that fill and empty it. */
  get isSlow(): boolean {
    return this.#sustained.isSettled && (this.#sustained.value ?? 0) < SLOW_BYTES_PER_MS
  }

  /** A ping is unanswered. */
  get isPinging(): boolean {
    return this.#pending.length > 0
  }

  /** Call when pages wait for room in the window. */
  full(atMs: number): void {
    this.#fullAtMs = atMs
  }

  /** Counts bytes sent without a ping; the next ping covers them, too. */
  count(bytes: number): void {
    this.#sentBytes += bytes
  }

  /** @returns the value of the ping to send after these bytes */
  sent(bytes: number, atMs: number): number {
    const placedBytes = this.#placedBytes
    this.#sentBytes += bytes
    const value = this.#nextPing
    this.#nextPing = value === LAST_PING ? FIRST_PING : value + 1
    this.#newsAtMs = atMs
    this.#pending.push({ value, atMs, sentBytes: this.#sentBytes, placedBytes })
    return value
  }

  /** Takes a pong; pongs of unknown pings are ignored. */
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

  /** For `forMs`, no bytes were sent or known to be placed, as if pings were not answered. */
  isStalled(forMs: number, atMs: number): boolean {
    return atMs - this.#newsAtMs >= forMs
  }

  /**
   * How many bytes may be in flight, so that a page requested now waits at most `queueMs` for the
   * other pages.
   */
  bytesFor(queueMs: number): number {
    const rate = this.isSlow ? this.#sustained.value : this.#rate.value
    const roundTripMs = this.#roundTripMs.value
    if (this.#isPausing) return 0
    if (rate === undefined || roundTripMs === undefined) return FIRST_WINDOW_BYTES
    return Math.max(LEAST_WINDOW_BYTES, rate * (roundTripMs * HEADROOM + queueMs))
  }
}

/** The largest or smallest value of a recent period. A value expires after one to two periods. */
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

  /** Values were added for longer than the memory lasts. */
  get isSettled(): boolean {
    return this.#before !== undefined
  }

  /** @returns whether a value has expired */
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

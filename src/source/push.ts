/** Sends pages in postcopy: requested pages first, then all others, until nothing is owed. */
import type { Counters, Parameters } from '../migration/index.js'
import type { Signal } from './signal.js'
import type { TrackedBlock } from '../ram/index.js'
import { RAM_PAGE_RECORD_BYTES, encode, encodePing } from '../stream/index.js'
import type { SourceLink } from './link.js'
import { PushWindow } from './push-window.js'
import { type DirectSend, batchLength } from './page-packer.js'
import { BATCH_PAGES, type RamSender } from './ram-sender.js'
import { ReadAhead } from './read-ahead.js'
import type { Replay } from './replay.js'
import { RequestRate } from './request-rate.js'

/** Milliseconds after a request, and after the switch, in which another request is likely. */
const BUSY_MS = 100
/** How long a request may wait for pushed pages, in milliseconds, while there are no requests. */
const CALM_QUEUE_MS = 5
/** The same while there are requests, in a storm of them or on a slow link. */
const SHORT_QUEUE_MS = 0.1
/** The same on a fast link, where a turn of the event loop takes longer than a batch. */
const FAST_QUEUE_MS = 1
/** The same for pages sent ahead: another vCPU may request a different page. */
const AHEAD_QUEUE_MS = 1
/** Fraction of the window sent per batch; the rest is in flight while a batch is made. */
const BATCH_SHARE = 0.5
/** Longest batch under a bandwidth limit, in seconds; longer ones would be sent in bursts. */
const LIMITED_BATCH_SECONDS = 0.1
/** Bytes of requested pages without a ping: each pong costs both ends as much as a request does. */
const MOST_UNPINGED_BYTES = 32 * 1024
/** How long to wait for a pong before more is sent without one. */
const PONG_MS = 10
/** How long pushing waits for the devices to be loaded. */
const LOADING_MS = 100
/** How long to wait until the destination has placed everything in flight. */
const DRAIN_MS = 500
/** How long to wait for pages that are read from disk before looking again. */
const LOAD_MS = 1000
/** Timers have a maximum; longer waits are repeated. */
const MAX_WAIT_MS = 60_000

/** Every batch has room for a ping. */
export const PING_BYTES = encode((out) => encodePing(out, 0)).length

export interface PushOptions {
  readonly ram: RamSender
  readonly counters: Counters
  /** Notified when the destination has sent something. */
  readonly signal: Signal
  /** The current parameters; they may change. */
  readonly parameters: () => Parameters
  /** Whether the destination still loads the devices: its guest does not run yet. */
  readonly isLoading: () => boolean
  /** Throws the reason if the migration cannot continue. */
  readonly check: () => void
  /** What to push before all other pages, if known. */
  readonly replay?: Replay | undefined
}

export class Push {
  readonly #ram: RamSender
  readonly #counters: Counters
  readonly #signal: Signal
  readonly #parameters: () => Parameters
  readonly #isLoading: () => boolean
  readonly #check: () => void
  readonly #replay: Replay | undefined
  readonly #window = new PushWindow()
  readonly #readAhead = new Map<TrackedBlock, ReadAhead>()
  readonly #requestRate = new RequestRate()
  #lastRequestAt = -Infinity
  /** Set during {@link run}: sends requested pages if that needs no waiting. @returns bytes sent */
  #serve: (() => number) | undefined

  constructor({ ram, counters, signal, parameters, isLoading, check, replay }: PushOptions) {
    this.#ram = ram
    this.#counters = counters
    this.#signal = signal
    this.#parameters = parameters
    this.#isLoading = isLoading
    this.#check = check
    this.#replay = replay
  }

  /** Pages of the page order that are zero are sent, too, because they will be requested. */
  takeInReplay(): void {
    for (const { tracked, first, end } of this.#replay?.runs() ?? []) {
      this.#ram.takeIn(tracked, first, end)
    }
  }

  /** Takes a request for the whole host pages `[first, end)`, in target pages. */
  request(tracked: TrackedBlock, first: number, end: number): void {
    this.#counters.requestedPages += (end - first) / tracked.block.hostPages
    this.#lastRequestAt = performance.now()
    this.#requestRate.note(this.#lastRequestAt)
    this.#ram.request(tracked, first, end)
    this.#replay?.note(tracked, first, end)
    this.#expect(tracked, end)
  }

  /** Queues pages that continue the pattern of the requests. The last request ends at `end`. */
  #expect(tracked: TrackedBlock, end: number): void {
    const most = this.#parameters()['x-read-ahead-pages']
    if (most === 0) return
    const { hostPages, pageCount } = tracked.block
    let readAhead = this.#readAhead.get(tracked)
    if (readAhead === undefined) this.#readAhead.set(tracked, (readAhead = new ReadAhead()))
    const guess = readAhead.guess(end / hostPages - 1, most)
    if (guess === undefined) return
    const { first, stride, count } = guess
    if (stride === 1) {
      this.#expectRange(
        tracked,
        first * hostPages,
        Math.min((first + count) * hostPages, pageCount),
      )
      return
    }
    for (let step = 0; step < count; step += 1) {
      const page = (first + step * stride) * hostPages
      if (page < 0 || page >= pageCount) return
      this.#expectRange(tracked, page, page + hostPages)
    }
  }

  #expectRange(tracked: TrackedBlock, first: number, end: number): void {
    if (first >= end) return
    this.#ram.expect(tracked, first, end)
    this.#replay?.note(tracked, first, end)
  }

  pong(value: number): void {
    this.#window.acknowledge(value, performance.now())
  }

  /**
   * Waits until the destination has placed everything that was sent.
   *
   * @returns whether it has, in time
   */
  async drain(link: SourceLink): Promise<boolean> {
    link.write(this.#pingAfter(link.sentBytes))
    const deadline = performance.now() + DRAIN_MS
    while (this.#window.outstandingBytes > 0 && performance.now() < deadline) {
      this.#check()
      await this.#signal.wait(deadline - performance.now())
    }
    return this.#window.outstandingBytes === 0
  }

  /** @param urgentLink - the preempt channel, if there is one */
  async run(link: SourceLink, urgentLink: SourceLink | undefined): Promise<void> {
    this.#serve = () =>
      urgentLink === undefined
        ? link.trySendBatch((out) => this.#packRequested(out))
        : urgentLink.trySendBatch((out) => this.#ram.packUrgent(out))
    try {
      await this.#run(link, urgentLink)
    } finally {
      this.#serve = undefined
    }
  }

  /**
   * Sends requested pages at once, so that the faulting threads do not wait for a turn of the event
   * loop.
   *
   * @returns whether nothing else is to be done; if not, {@link run} has to run
   */
  serve(): boolean {
    if (this.#serve === undefined) return false
    this.#counters.postcopyBytes += this.#serve()
    const isServed = this.#ram.requestsWaiting + this.#ram.aheadWaiting === 0
    return isServed && this.#ram.remainingPages > 0
  }

  async #run(link: SourceLink, urgentLink: SourceLink | undefined): Promise<void> {
    const begunAt = performance.now()
    while (this.#ram.remainingPages > 0) {
      const mayPush = await link.pace(this.#parameters()['max-postcopy-bandwidth'])
      this.#check()
      const requested =
        this.#ram.requestsWaiting > 0 ? await this.#sendRequested(link, urgentLink) : 0
      this.#counters.postcopyBytes += requested
      if (requested > 0 || !mayPush) continue
      const ahead = this.#ram.aheadWaiting > 0 ? await this.#sendAhead(link) : 0
      const sent = ahead > 0 ? ahead : await this.#push(link, begunAt)
      this.#counters.postcopyBytes += sent
      link.limit(sent)
    }
  }

  #sendRequested(link: SourceLink, urgentLink: SourceLink | undefined): Promise<number> {
    return urgentLink === undefined
      ? link.sendBatch((out) => this.#packRequested(out))
      : urgentLink.sendBatch((out) => this.#ram.packUrgent(out))
  }

  #sendAhead(link: SourceLink): Promise<number> {
    const pages = this.#aheadPages
    return link.sendBatch((out) => this.#pinged(out, (room) => this.#ram.packAhead(room, pages)))
  }

  /** Sends the next batch of unrequested pages, or waits until it may. @returns bytes sent */
  async #push(link: SourceLink, begunAt: number): Promise<number> {
    const replay = this.#replay?.peek() === undefined ? undefined : this.#replay
    // A replay does not wait for quiet, because its pages will be requested. It does wait for
    // loading devices, which it would slow down.
    const quietMs = replay === undefined ? this.#parameters()['x-push-after-quiet-ms'] : 0
    const waitMs = this.#holdBackMs(begunAt, quietMs)
    if (waitMs > 0) {
      await this.#signal.wait(Math.min(waitMs, MAX_WAIT_MS))
      return 0
    }
    const windowBytes = this.#window.bytesFor(this.#queueMs(begunAt))
    const batchBytes = Math.min(windowBytes * BATCH_SHARE, this.#limitedBytes)
    const batchPages = Math.max(
      1,
      Math.min(BATCH_PAGES, Math.floor(batchBytes / RAM_PAGE_RECORD_BYTES)),
    )
    const roomBytes = windowBytes - this.#window.outstandingBytes
    const isFull = batchPages * RAM_PAGE_RECORD_BYTES > roomBytes
    if (isFull && !this.#window.isStalled(PONG_MS, performance.now())) {
      this.#window.full(performance.now())
      // All outstanding bytes may be requested pages, which were sent without a ping.
      if (!this.#window.isPinging) link.write(this.#pingAfter(0))
      await this.#signal.wait(PONG_MS)
      return 0
    }
    const sent =
      replay === undefined
        ? await link.sendSweep((out, direct) => this.#packSweep(out, batchPages, direct))
        : await link.sendBatch((out) =>
            this.#pinged(out, (room) => this.#ram.packReplay(room, replay, batchPages)),
          )
    // The next pages are not in the page cache yet; their arrival notifies.
    if (sent === 0 && this.#ram.isLoading) await this.#signal.wait(LOAD_MS)
    return sent
  }

  get #limitedBytes(): number {
    const bytesPerSecond = this.#parameters()['max-postcopy-bandwidth']
    return bytesPerSecond === 0 ? Infinity : bytesPerSecond * LIMITED_BATCH_SECONDS
  }

  /** A pong that arrives cuts a batch short. The remainder of a batch needs no ping of its own. */
  #packSweep(out: Uint8Array, batchPages: number, direct?: Readonly<DirectSend>): number {
    const end = this.#ram.packPart(out.subarray(0, out.length - PING_BYTES), batchPages, direct)
    if (end === 0) return 0
    const bytes = batchLength(end, direct)
    if (this.#window.unpingedBytes + bytes < (batchPages * RAM_PAGE_RECORD_BYTES) / 2) {
      this.#window.count(bytes)
      return end
    }
    out.set(this.#pingAfter(bytes), end)
    return end + PING_BYTES
  }

  /** How many pages may be sent ahead now: one batch, so that few are requested in the meantime. */
  get #aheadPages(): number {
    const roomBytes = this.#window.bytesFor(AHEAD_QUEUE_MS) - this.#window.outstandingBytes
    return Math.max(0, Math.min(BATCH_PAGES, Math.floor(roomBytes / RAM_PAGE_RECORD_BYTES)))
  }

  /** Packs requested pages, and those expected to be requested next. */
  #packRequested(out: Uint8Array): number {
    const aheadPages = this.#aheadPages
    const pack = (room: Uint8Array): number => this.#ram.packRequested(room, aheadPages)
    const isPingDue = this.#window.unpingedBytes >= MOST_UNPINGED_BYTES
    if (isPingDue || this.#ram.aheadWaiting > 0) return this.#pinged(out, pack)
    const lengthBytes = pack(out)
    this.#window.count(lengthBytes)
    return lengthBytes
  }

  /** Appends a ping to what `pack` has filled in, to learn when it is placed. */
  #pinged(out: Uint8Array, pack: (room: Uint8Array) => number): number {
    const lengthBytes = pack(out.subarray(0, out.length - PING_BYTES))
    if (lengthBytes === 0) return 0
    out.set(this.#pingAfter(lengthBytes), lengthBytes)
    return lengthBytes + PING_BYTES
  }

  #queueMs(begunAt: number): number {
    const time = performance.now()
    const quietMs = time - Math.max(begunAt, this.#lastRequestAt)
    if (quietMs >= BUSY_MS) return CALM_QUEUE_MS
    const isShort = this.#window.isSlow || this.#requestRate.isStorm(time)
    return isShort ? SHORT_QUEUE_MS : FAST_QUEUE_MS
  }

  /** Milliseconds for which no unrequested page may be pushed; 0 or less: push now. */
  #holdBackMs(begunAt: number, quietMs: number): number {
    const time = performance.now()
    // Until the devices are loaded the guest is stopped, and loading may request pages.
    const loadingMs = this.#isLoading() ? begunAt + LOADING_MS - time : 0
    const untilQuietMs = Math.max(begunAt, this.#lastRequestAt) + quietMs - time
    return Math.max(loadingMs, untilQuietMs)
  }

  #pingAfter(bytes: number): Uint8Array {
    const value = this.#window.sent(bytes, performance.now())
    return encode((out) => encodePing(out, value))
  }
}

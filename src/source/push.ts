/** Postcopy's sending: requested pages first, everything else behind them, until nothing is owed. */
import type { Counters } from '../migration/counters.js'
import type { Parameters } from '../migration/options.js'
import type { Signal } from '../migration/signal.js'
import type { TrackedBlock } from '../ram/dirty-log.js'
import { encode, encodePing } from '../stream/index.js'
import type { SourceLink } from './link.js'
import { PushWindow } from './push-window.js'
import { BATCH_PAGES, type RamSender } from './ram-sender.js'

/** Pages in a batch while requests keep coming: the next request must not wait behind more. */
const BUSY_BATCH_PAGES = 16
/** Milliseconds after a request in which another one is likely. */
const BUSY_MS = 2
/** Bytes that may be on their way in front of the next requested page. */
const BUSY_WINDOW_BYTES = 256 * 1024
/** How long devices may take to load before pages are pushed in spite of it. */
const LOADING_MS = 100
/** How long to wait until the destination has taken all that is on its way. */
const DRAIN_MS = 500
/** Timers cannot wait for ever; look again. */
const MAX_WAIT_MS = 60_000

export interface PushOptions {
  readonly ram: RamSender
  readonly counters: Counters
  /** Notified when anything was heard from the destination. */
  readonly signal: Signal
  /** Throws what makes it senseless to go on. */
  readonly check: () => void
}

export class Push {
  /** The destination's devices are loaded: its guest runs. */
  packageLoaded = false
  readonly #ram: RamSender
  readonly #counters: Counters
  readonly #signal: Signal
  readonly #check: () => void
  readonly #window = new PushWindow()
  #lastRequestAt = -Infinity

  constructor({ ram, counters, signal, check }: PushOptions) {
    this.#ram = ram
    this.#counters = counters
    this.#signal = signal
    this.#check = check
  }

  /** Whole host pages `[first, end)` are asked for, in target pages. */
  request(tracked: TrackedBlock, first: number, end: number): void {
    this.#counters.requestedPages += (end - first) / tracked.block.hostPages
    this.#lastRequestAt = performance.now()
    this.#ram.queue.add(tracked, first, end)
  }

  pong(value: number): void {
    this.#window.acknowledge(value)
  }

  /**
   * Lets the destination catch up with all that was sent.
   *
   * @returns whether it has, in time
   */
  async drain(link: SourceLink): Promise<boolean> {
    this.#sendPing(link, this.#counters.transferredBytes)
    const deadline = performance.now() + DRAIN_MS
    while (this.#window.outstandingBytes > 0 && performance.now() < deadline) {
      this.#check()
      await this.#signal.wait(deadline - performance.now())
    }
    return this.#window.outstandingBytes === 0
  }

  /**
   * @param urgentLink - the preempt channel, where there is one
   * @param parameters - as they are now; they may change
   */
  async run(
    link: SourceLink,
    urgentLink: SourceLink | undefined,
    parameters: () => Parameters,
  ): Promise<void> {
    const begunAt = performance.now()
    while (this.#ram.remainingPages > 0) {
      const mayPush = await link.pace(parameters()['max-postcopy-bandwidth'])
      this.#check()
      const requested = await this.#sendRequested(link, urgentLink)
      this.#counters.postcopyBytes += requested
      if (requested > 0 || !mayPush) continue
      const busy = performance.now() - this.#lastRequestAt < BUSY_MS
      const waitMs = this.#holdBackMs(begunAt, busy, parameters()['x-push-after-quiet-ms'])
      if (waitMs > 0) {
        await this.#signal.wait(Math.min(waitMs, MAX_WAIT_MS))
        continue
      }
      const sent = await link.sendBatch((out) =>
        this.#ram.packPart(out, busy ? BUSY_BATCH_PAGES : BATCH_PAGES),
      )
      this.#counters.postcopyBytes += sent
      this.#sendPing(link, sent)
      link.limit(sent)
    }
  }

  /** Why nothing may be pushed now that nobody has asked for, and for how long. */
  #holdBackMs(begunAt: number, busy: boolean, quietMs: number): number {
    const time = performance.now()
    // Until the devices are loaded the guest stands still, and they may ask for pages.
    const loadingMs = this.packageLoaded ? 0 : begunAt + LOADING_MS - time
    const untilQuietMs = Math.max(begunAt, this.#lastRequestAt) + quietMs - time
    const behindMs = busy && this.#window.outstandingBytes > BUSY_WINDOW_BYTES ? BUSY_MS : 0
    return Math.max(loadingMs, untilQuietMs, behindMs)
  }

  /** On the channel of their own, where there is one. */
  async #sendRequested(link: SourceLink, urgentLink: SourceLink | undefined): Promise<number> {
    if (urgentLink !== undefined) {
      return urgentLink.sendBatch((out) => this.#ram.packUrgent(out))
    }
    const sent = await link.sendBatch((out) => this.#ram.packRequested(out))
    if (sent > 0) this.#window.sent(sent)
    return sent
  }

  #sendPing(link: SourceLink, behindBytes: number): void {
    const value = this.#window.sent(behindBytes)
    link.write(encode((out) => encodePing(out, value)))
  }
}

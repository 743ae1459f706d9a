/**
 * The source's side of a channel. It keeps the first failure and throws it at the next use, and it
 * limits the rate of writing.
 */
import { ConnectionError, type PostcopyError } from '../errors.js'
import { BatchWriter, type Channel, type Consumer } from '../net/index.js'
import type { Counters } from '../migration/index.js'
import { type Signal, tick } from './signal.js'
import { type DirectSend, batchLength } from './page-packer.js'
import { formatByteSize } from '../units.js'
import { RateLimiter, RateMeter } from './rate-limiter.js'

/**
 * Without a return path, a peer that took more than this has not refused the set-up. With a return
 * path the answer to the first ping shows that, whatever the socket buffers hold.
 */
const MOST_SETUP_BYTES = 1024 * 1024

export class SourceLink {
  readonly #channel: Channel
  readonly #batches: BatchWriter
  readonly #counters: Counters
  readonly #signal: Signal
  readonly #hasReturnPath: boolean
  readonly #limiter = new RateLimiter()
  readonly #meter = new RateMeter()
  #broken: PostcopyError | undefined
  #sentBytes = 0
  #hasHeard = false
  /**
   * Pending writes that the kernel has not taken. Batches are not counted, because they precede
   * them.
   */
  #untaken = 0

  /**
   * @param consume - takes the return path's bytes; an error it throws breaks the link
   * @param signal - notified when the link breaks
   * @param hasReturnPath - the peer answers a ping that precedes all RAM
   */
  constructor(
    channel: Channel,
    batchBytes: number,
    counters: Counters,
    signal: Signal,
    consume: Consumer,
    hasReturnPath: boolean,
  ) {
    this.#channel = channel
    this.#batches = new BatchWriter(channel, batchBytes)
    this.#counters = counters
    this.#signal = signal
    this.#hasReturnPath = hasReturnPath
    channel.start({
      consume: (bytes, start, end) => {
        this.#hasHeard = true
        try {
          return consume(bytes, start, end)
        } catch (error) {
          this.break(error as PostcopyError)
          return end - start
        }
      },
      end: () => this.break(this.#closedByPeer()),
      close: (error) => this.break(this.#reasonOf(error)),
    })
  }

  /** Why nothing more can be sent or received; undefined while the link works. */
  get broken(): PostcopyError | undefined {
    // The channel records a failure before it reports `close`.
    if (this.#channel.broken) this.#broken ??= this.#reasonOf(this.#channel.error)
    return this.#broken
  }

  /**
   * Keeps the first reason. Does not close the connection: the peer's last message may still be
   * read.
   */
  break(reason: PostcopyError): void {
    this.#broken ??= reason
    this.#batches.abandon()
    this.#signal.notify()
  }

  get bytesPerSecond(): number {
    return this.#meter.bytesPerSecond
  }

  write(bytes: Uint8Array): void {
    this.#account(bytes.length)
    this.#untaken += 1
    this.#channel.write(bytes, (error) => {
      if (error === null || error === undefined) this.#untaken -= 1
      this.#signal.notify()
    })
  }

  /**
   * Waits until the kernel has taken every byte, or the link is broken.
   *
   * @returns whether it has
   */
  async taken(): Promise<boolean> {
    while (this.#untaken > 0 && this.#broken === undefined) await this.#signal.wait()
    return this.#untaken === 0
  }

  /** Resolves when the kernel has taken these bytes, or the link is broken. */
  async writeAll(bytes: Uint8Array): Promise<void> {
    this.#account(bytes.length)
    // If its socket closes, Node may end a write without an error.
    let over = false
    this.#channel.write(bytes, () => {
      over = true
      this.#signal.notify()
    })
    const isOver = (): boolean => over
    while (!isOver() && this.#broken === undefined) await this.#signal.wait()
  }

  /**
   * Lets `pack` fill a batch and sends it.
   *
   * @param pack - returns how many bytes it filled, 0 for nothing to send
   * @returns that number
   */
  async sendBatch(pack: (out: Uint8Array) => number): Promise<number> {
    return this.#send(await this.#batch(), pack)
  }

  /**
   * As {@link sendBatch}, but `pack` may send most of the batch itself.
   *
   * @param pack - returns where in the buffer the bytes that it has not sent end
   */
  async sendSweep(pack: (out: Uint8Array, direct?: DirectSend) => number): Promise<number> {
    const batch = await this.#batch()
    const fd = this.#channel.directFd
    const direct = fd === undefined ? undefined : { fd, sentBytes: 0, unsentFrom: 0 }
    return this.#send(batch, (out) => pack(out, direct), direct)
  }

  async #batch(): Promise<Uint8Array> {
    const batch = this.#batches.tryTake() ?? (await this.#batches.take())
    if (batch === undefined) throw this.broken ?? this.#closedByPeer()
    return batch
  }

  /** As {@link sendBatch}, but never waits: returns 0 if it would have to. */
  trySendBatch(pack: (out: Uint8Array) => number): number {
    const batch = this.broken === undefined ? this.#batches.tryTake() : undefined
    return batch === undefined ? 0 : this.#send(batch, pack)
  }

  #send(batch: Uint8Array, pack: (out: Uint8Array) => number, direct?: DirectSend): number {
    const end = pack(batch)
    if (end === 0) {
      this.#batches.giveBack(batch)
      return 0
    }
    const lengthBytes = batchLength(end, direct)
    this.#account(lengthBytes)
    this.#batches.send(batch, direct?.unsentFrom ?? 0, end)
    return lengthBytes
  }

  /**
   * Lets the event loop run, and waits if the limit `bytesPerSecond` (0: none) requires it.
   *
   * @returns whether more may be sent now; if not, the link was notified or time has passed
   */
  async pace(bytesPerSecond: number): Promise<boolean> {
    const waitMs = this.#limiter.waitMs(bytesPerSecond)
    if (waitMs > 0) await this.#signal.wait(waitMs)
    else await tick()
    return waitMs === 0
  }

  /** Counts bytes towards the limit of {@link pace}. */
  limit(bytes: number): void {
    this.#limiter.account(bytes)
  }

  /** See {@link Channel.spin}. */
  spin(microseconds: number): void {
    this.#channel.spin(microseconds)
  }

  /** Ends the writing side of the connection. */
  endWriting(): void {
    this.#channel.endWriting()
  }

  close(): void {
    this.#channel.destroy()
  }

  /** Bytes written since it was made. */
  get sentBytes(): number {
    return this.#sentBytes
  }

  #account(bytes: number): void {
    this.#sentBytes += bytes
    this.#meter.add(bytes)
    this.#counters.transferredBytes += bytes
    this.#counters.bytesPerSecond = this.#meter.bytesPerSecond
  }

  /** @param error - the channel's error */
  #reasonOf(error: ConnectionError | undefined): ConnectionError {
    return error === undefined || isReset(error) ? this.#closedByPeer(error) : error
  }

  #closedByPeer(cause?: ConnectionError): ConnectionError {
    const { peer } = this.#channel
    const mayHaveRefused =
      !this.#hasHeard && (this.#hasReturnPath || this.#sentBytes <= MOST_SETUP_BYTES)
    const text = mayHaveRefused
      ? `${peer} closed the connection before it answered; see its own messages. Are machine, capabilities (postcopy-ram) and tls-creds the same on both ends?`
      : `${peer} closed the connection after ${formatByteSize(this.#sentBytes)} without a reason; see its own messages`
    return new ConnectionError(CLOSED_BY_PEER, text, { cause })
  }
}

/** A peer that closes with unread bytes resets the connection. That counts as a normal close. */
function isReset({ code }: ConnectionError): boolean {
  return code === 'ECONNRESET' || code === 'EPIPE'
}

/** Code of {@link closedByPeer}. */
export const CLOSED_BY_PEER = 'ERR_CONNECTION_CLOSED'

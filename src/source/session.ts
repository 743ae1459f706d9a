/**
 * One connection with a destination, and with postcopy-preempt a second one: what a migration and
 * each of its recoveries have in common.
 */
import type { PostcopyError } from '../errors.js'
import { ConnectionError, PeerError } from '../errors.js'
import { connect, type Consumer, type MigrationUri, type TlsClient } from '../net/index.js'
import type { Capabilities, Counters, Parameters } from '../migration/index.js'
import { Signal, tick } from './signal.js'
import type { TrackedBlock } from '../ram/index.js'
import { encode, encodeEndOfStream, encodeRamEndOfSection, PingValue } from '../stream/index.js'
import { CLOSED_BY_PEER, SourceLink } from './link.js'
import { PING_BYTES, Push } from './push.js'
import { BUFFER_PAGES, type EndPiece, RamSender } from './ram-sender.js'
import { Replay } from './replay.js'
import { ReturnPath, type ReturnPathEvents } from './return-path.js'

/** How long a destination may take to answer before it is taken for a QEMU 7.2. */
const PREEMPT_ANSWER_MS = 500

export interface SessionOptions {
  readonly uri: MigrationUri
  /** Undefined: in clear. */
  readonly tls: TlsClient | undefined
  readonly ramSectionId: number | undefined
  readonly capabilities: Capabilities
  /** As they are now; they may change. */
  readonly parameters: () => Parameters
  /** Gives up what is not connected yet. */
  readonly signal: AbortSignal
  /** Of a `PageOrder` over the blocks: what to push first; what is asked for is added. */
  readonly pageOrder?: SharedArrayBuffer | undefined
}

export class Session {
  readonly ram: RamSender
  readonly push: Push
  readonly returnPath: ReturnPath
  /** Notified whenever something was heard, or has broken. */
  readonly signal = new Signal()
  readonly #options: SessionOptions
  readonly #counters: Counters
  #link: SourceLink | undefined
  /** The preempt channel: requested pages only. */
  #urgentLink: SourceLink | undefined
  #hasAnswered = false
  #everythingSent = false

  /** @param events - what else is to be done with what the destination says */
  constructor(
    blocks: readonly TrackedBlock[],
    options: SessionOptions,
    counters: Counters,
    events: Partial<ReturnPathEvents> = {},
  ) {
    this.#options = options
    this.#counters = counters
    this.ram = new RamSender(blocks, counters, options.ramSectionId)
    this.push = new Push({
      ram: this.ram,
      counters,
      signal: this.signal,
      parameters: options.parameters,
      check: () => this.check(),
      replay: Replay.of(options.pageOrder, blocks),
    })
    /** Room for more pages: the loop has to look. */
    let heardPong = false
    let heardRequest = false
    this.returnPath = new ReturnPath(blocks, {
      ...events,
      pong: (value) => {
        heardPong = true
        this.push.pong(value)
        if (value === PingValue.packageLoaded) this.push.packageLoaded = true
      },
      pagesRequested: (tracked, first, end) => {
        heardRequest = true
        this.push.request(tracked, first, end)
      },
      changed: () => {
        this.#hasAnswered = true
        // Whose page has just been sent needs a processor now, more than a loop without work does.
        const isOver = this.push.serve() && !heardPong && this.returnPath.shutStatus === undefined
        events.changed?.()
        if (!isOver) this.signal.notify()
        // Who has got a page touches the next one soon.
        else if (heardRequest) this.#link?.spin(options.parameters()['x-spin-us'])
        heardPong = false
        heardRequest = false
      },
    })
  }

  /** @throws ConnectionError with the errno name and the peer */
  async connect(): Promise<SourceLink> {
    const { capabilities } = this.#options
    this.#link = await this.#connect(
      (bytes, start, end) => this.returnPath.consume(bytes, start, end),
      capabilities['postcopy-ram'] || capabilities['return-path'],
    )
    return this.#link
  }

  async #connect(consume: Consumer, hasReturnPath: boolean): Promise<SourceLink> {
    const parameters = this.#options.parameters()
    const channel = await connect(this.#options.uri, {
      timeoutMs: parameters['x-timeout'],
      signal: this.#options.signal,
      tls: this.#options.tls,
    })
    channel.detectSilence(parameters['x-silence-timeout'])
    const batchBytes = this.ram.batchBytes(BUFFER_PAGES) + PING_BYTES
    return new SourceLink(channel, batchBytes, this.#counters, this.signal, consume, hasReturnPath)
  }

  /**
   * A destination of QEMU 7.2 begins only when both connections are there, and so answers
   * nothing; a newer one answers, and gets its second connection later.
   */
  async openUrgentLinkIfAwaited(): Promise<void> {
    if (!this.#options.capabilities['postcopy-preempt']) return
    const answered = await this.waitFor(() => this.#hasAnswered, PREEMPT_ANSWER_MS)
    if (!answered) await this.openUrgentLink()
  }

  /** Nothing happens without the capability, or where it is open. */
  async openUrgentLink(): Promise<void> {
    if (!this.#options.capabilities['postcopy-preempt'] || this.#urgentLink !== undefined) return
    this.#urgentLink = await this.#connect(() => {
      throw new PeerError('ERR_PEER_PROTOCOL', 'the destination wrote to the preempt channel')
    }, false)
  }

  /**
   * Opens the preempt channel, and lets the destination close it where it has no use for it: a
   * guest that is stopped would wait for its pages in vain. Nothing happens without the capability.
   *
   * @throws ConnectionError where it cannot be made, or is closed again
   */
  async establishUrgentLink(link: SourceLink): Promise<void> {
    if (!this.#options.capabilities['postcopy-preempt']) return
    await this.openUrgentLink()
    await this.push.drain(link)
    this.check()
  }

  /**
   * With TLS or a preempt channel, waits until the destination has answered: only then has it
   * accepted our certificate, and both connections are where they should be. Nothing of a guest
   * that is stopped may depend on that.
   *
   * @throws ConnectionError `ERR_TLS_HANDSHAKE` or `ETIMEDOUT` where it does not answer,
   *   `ERR_TLS_REFUSED`
   */
  async acceptance(): Promise<void> {
    const isSecured = this.#options.tls !== undefined
    if (!isSecured && !this.#options.capabilities['postcopy-preempt']) return
    const timeoutMs = this.#options.parameters()['x-timeout']
    if (await this.waitFor(() => this.#hasAnswered, timeoutMs)) return
    if (!isSecured) {
      throw new ConnectionError(
        'ETIMEDOUT',
        `the destination has said nothing within ${timeoutMs} ms (x-timeout), and its preempt channel cannot be relied on: does something between the two ends delay the first connection?`,
      )
    }
    throw new ConnectionError(
      'ERR_TLS_HANDSHAKE',
      `the destination has said nothing within ${timeoutMs} ms (x-timeout) of the TLS handshake`,
    )
  }

  /**
   * Waits until `condition` holds.
   *
   * @returns whether it does, in time
   */
  async waitFor(condition: () => boolean, timeoutMs: number): Promise<boolean> {
    const deadline = performance.now() + timeoutMs
    while (!condition() && performance.now() < deadline) {
      this.check()
      await this.signal.wait(deadline - performance.now())
    }
    return condition()
  }

  /** All that is owed in postcopy, and the end of the stream. */
  async sendAll(link: SourceLink): Promise<void> {
    await this.push.run(link, this.#urgentLink)
    await this.sendEnd(link)
    link.write(encode(encodeEndOfStream))
    // A 7.2 destination waits for this mark, newer ones take it.
    this.#urgentLink?.write(encode(encodeRamEndOfSection))
    this.#everythingSent = true
  }

  /** The END section of `ram`, with every page that is left. @returns bytes sent */
  async sendEnd(link: SourceLink): Promise<number> {
    this.ram.beginRound()
    let piece: EndPiece = { lengthBytes: 0, complete: false }
    let sent = 0
    for (let first = true; !piece.complete; first = false) {
      this.check()
      sent += await link.sendBatch((out) => {
        piece = this.ram.packEnd(out, first)
        return piece.lengthBytes
      })
      await tick()
    }
    return sent
  }

  /** Says that the destination may have the last word now. */
  everythingSent(): void {
    this.#everythingSent = true
  }

  /** Waits for the destination's SHUT 0. */
  async confirmed(): Promise<void> {
    while (this.returnPath.shutStatus !== 0) {
      this.check()
      await this.signal.wait()
    }
  }

  /** @throws what makes it senseless to go on */
  check(): void {
    const status = this.returnPath.shutStatus
    if (status === 0 && !this.#everythingSent) {
      throw new PeerError(
        'ERR_PEER_PROTOCOL',
        'the destination said SHUT 0 before it had everything',
      )
    }
    if (status !== undefined && status !== 0) {
      throw new PeerError(
        'ERR_PEER_REFUSED',
        `the destination gave up (SHUT ${status}); its own messages say why`,
      )
    }
    if (this.#link?.broken !== undefined) throw this.#link.broken
    // Once all is sent, a destination may close the preempt channel before its last word.
    if (!this.#everythingSent && this.#urgentLink?.broken !== undefined)
      throw this.#urgentLink.broken
  }

  /** The destination's last word says more than what broke because of it. */
  reasonFor(error: unknown): unknown {
    try {
      this.check()
      return this.#explain(error)
    } catch (reason) {
      return this.#explain(reason)
    }
  }

  /** A server that does not accept a certificate just closes. */
  #explain(error: unknown): unknown {
    const isClosed = error instanceof ConnectionError && error.code === CLOSED_BY_PEER
    const isSecured = this.#options.tls !== undefined && this.#link !== undefined
    if (!isClosed || !isSecured || this.#hasAnswered) return error
    return new ConnectionError(
      'ERR_TLS_REFUSED',
      'the destination closed the connection behind the TLS handshake: it does not accept our certificate, or another source came first; its own messages say why',
      { cause: error },
    )
  }

  /** Nobody waits for the peer any more; a word of its may still be read. */
  break(reason: PostcopyError): void {
    this.#link?.break(reason)
    this.signal.notify()
  }

  close(): void {
    this.#link?.close()
    this.#urgentLink?.close()
  }
}

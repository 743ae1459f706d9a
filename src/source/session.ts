/**
 * One connection to a destination, and with postcopy-preempt a second one. A migration and each of
 * its recoveries has one session.
 */
import type { PostcopyError } from '../errors.js'
import { ConnectionError, PeerError } from '../errors.js'
import { connect, type Consumer, type MigrationUri, type TlsClient } from '../net/index.js'
import type { Capabilities, Counters, Parameters } from '../migration/index.js'
import { Signal, tick } from './signal.js'
import { missingChecksum } from '../ram/index.js'
import {
  encode,
  encodeEndOfStream,
  encodePing,
  encodeRamEndOfSection,
  PingValue,
} from '../stream/index.js'
import type { SentBlock } from './block.js'
import { CLOSED_BY_PEER, SourceLink } from './link.js'
import { PING_BYTES, Push } from './push.js'
import { BUFFER_PAGES, type EndPiece, RamSender } from './ram-sender.js'
import { Replay } from './replay.js'
import type { SourcePhaseMachine } from './phases.js'
import { ReturnPath, type ReturnPathActions } from './return-path.js'
import { leaveOutZeroPages } from './zero-pages.js'

/** A destination that takes longer than this to answer counts as QEMU 7.2. */
const PREEMPT_ANSWER_MS = 500

/** A QEMU reads no connection before all have been made. */
const WAITS_FOR_CHANNELS =
  'so it may wait for further connections: are multifd and postcopy-preempt the same on both ends?'

/** Whether the destination answers, and not only receives. */
export function hasReturnPath(capabilities: Capabilities): boolean {
  return capabilities['postcopy-ram'] || capabilities['return-path']
}

export interface SessionOptions {
  readonly uri: MigrationUri
  /** Undefined: plaintext. */
  readonly tls: TlsClient | undefined
  readonly ramSectionId: number | undefined
  readonly capabilities: Capabilities
  /** The current parameters; they may change. */
  readonly parameters: () => Parameters
  /** Aborts a connection attempt. */
  readonly signal: AbortSignal
  /**
   * The buffer of a `PageOrder` over the blocks: what to push first. Requested pages are added to
   * it.
   */
  readonly pageOrder?: SharedArrayBuffer | undefined
}

/** What the destination's messages do beyond the session. */
export interface SessionActions extends Pick<ReturnPathActions, 'keepBitmap' | 'claim'> {
  /** The destination has loaded the package. */
  readonly loaded?: () => void
}

export class Session {
  readonly ram: RamSender
  readonly push: Push
  readonly returnPath: ReturnPath
  /** Notified when a message arrives, or the connection breaks. */
  readonly signal = new Signal()
  readonly #blocks: readonly SentBlock[]
  readonly #options: SessionOptions
  readonly #counters: Counters
  #link: SourceLink | undefined
  /** The preempt channel: requested pages only. */
  #urgentLink: SourceLink | undefined
  #hasAnswered = false
  #everythingSent = false

  /**
   * @param phases - decide which messages the destination may send now
   * @param actions - what they do beyond the session
   */
  constructor(
    blocks: readonly SentBlock[],
    phases: SourcePhaseMachine,
    options: SessionOptions,
    counters: Counters,
    actions: SessionActions,
  ) {
    const { loaded, ...messages } = actions
    this.#blocks = blocks
    this.#options = options
    this.#counters = counters
    this.ram = new RamSender(blocks, counters, options.ramSectionId, () => this.signal.notify())
    this.ram.leaveOut(new Map(blocks.map((block) => [block, block.leftOut])))
    const isLoading = (): boolean => phases.accepts('loaded')
    this.push = new Push({
      ram: this.ram,
      counters,
      signal: this.signal,
      parameters: options.parameters,
      isLoading,
      check: () => this.check(),
      replay: Replay.of(options.pageOrder, blocks),
    })
    /** A pong makes room for more pages: the loop of `run` has to continue. */
    let heardPong = false
    let heardRequest = false
    this.returnPath = new ReturnPath(blocks, phases, {
      ...messages,
      pong: (value) => {
        heardPong = true
        this.push.pong(value)
        if (value === PingValue.packageLoaded && isLoading()) loaded?.()
      },
      queuePages: (tracked, first, end) => {
        heardRequest = true
        this.push.request(tracked, first, end)
      },
      changed: () => {
        this.#hasAnswered = true
        // Does not wake an idle loop: the thread whose page was just sent needs the processor more.
        const isOver = this.push.serve() && !heardPong && this.returnPath.shutStatus === undefined
        if (!isOver) this.signal.notify()
        // A thread that has received a page soon faults on the next one.
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
      hasReturnPath(capabilities),
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
   * A destination of QEMU 7.2 begins only after both connections are made, and does not answer
   * before. Newer ones answer on the first connection, and get the second one later.
   */
  async openUrgentLinkIfAwaited(): Promise<void> {
    if (!this.#options.capabilities['postcopy-preempt']) return
    const answered = await this.waitFor(() => this.#hasAnswered, PREEMPT_ANSWER_MS)
    if (!answered) await this.openUrgentLink()
  }

  /** Does nothing without the capability, or if the channel is open. */
  async openUrgentLink(): Promise<void> {
    if (!this.#options.capabilities['postcopy-preempt'] || this.#urgentLink !== undefined) return
    this.#urgentLink = await this.#connect(() => {
      throw new PeerError('ERR_PEER_PROTOCOL', 'the destination wrote to the preempt channel')
    }, false)
  }

  /**
   * Opens the preempt channel, then waits for a pong, so that a destination that does not use the
   * channel can close it now. After the switch, the guest would wait for its pages in vain. Does
   * nothing without the capability.
   *
   * @throws ConnectionError if the channel cannot be opened, or is closed again
   */
  async establishUrgentLink(link: SourceLink): Promise<void> {
    if (!this.#options.capabilities['postcopy-preempt']) return
    await this.openUrgentLink()
    await this.push.drain(link)
    this.check()
  }

  /**
   * With a return path, waits for the destination's first answer. It shows that the destination
   * reads the connection, has accepted our certificate, and knows the role of each connection. A
   * stopped guest must not depend on any of these.
   *
   * @throws ConnectionError `ERR_TLS_HANDSHAKE` or `ETIMEDOUT` if there is no answer,
   *   `ERR_TLS_REFUSED`
   */
  async acceptance(): Promise<void> {
    const { capabilities, tls, parameters } = this.#options
    if (!hasReturnPath(capabilities)) return
    const timeoutMs = parameters()['x-timeout']
    if (await this.waitFor(() => this.#hasAnswered, timeoutMs)) return
    if (tls === undefined) {
      const why = capabilities['postcopy-preempt']
        ? 'so the preempt channel cannot be used: does something between the two ends delay the first connection?'
        : WAITS_FOR_CHANNELS
      throw new ConnectionError(
        'ETIMEDOUT',
        `the destination sent nothing on the main channel within ${timeoutMs} ms (x-timeout), ${why}`,
      )
    }
    throw new ConnectionError(
      'ERR_TLS_HANDSHAKE',
      `the destination sent nothing within ${timeoutMs} ms (x-timeout) after the TLS handshake`,
    )
  }

  /**
   * Waits until `condition` is true.
   *
   * @returns whether it became true in time
   */
  async waitFor(condition: () => boolean, timeoutMs: number): Promise<boolean> {
    const deadline = performance.now() + timeoutMs
    while (!condition() && performance.now() < deadline) {
      this.check()
      await this.signal.wait(deadline - performance.now())
    }
    return condition()
  }

  /**
   * Leaves out the zero pages that are owed, except those that are requested already, or will be
   * because the page order has them.
   */
  leaveOutZeroPages(): void {
    this.#counters.leftOutPages = leaveOutZeroPages(this.#blocks)
    this.ram.recount()
    this.ram.takeInRequested()
    this.push.takeInReplay()
  }

  /** Sends all that is owed in postcopy, and the end of the stream. */
  async sendAll(link: SourceLink): Promise<void> {
    await this.push.run(link, this.#urgentLink)
    await this.sendEnd(link)
    const leftOut = this.#blocks.map((block) => block.leftOut)
    if (leftOut.some((pages) => pages.next() !== -1)) {
      link.write(encode((out) => encodePing(out, missingChecksum(leftOut))))
    }
    link.write(encode(encodeEndOfStream))
    // A QEMU 7.2 destination waits for this mark; newer ones accept it.
    this.#urgentLink?.write(encode(encodeRamEndOfSection))
    this.#everythingSent = true
  }

  /** Sends the END section of `ram`, with all remaining pages. @returns bytes sent */
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

  /** Call when everything is sent: SHUT 0 is accepted from now on. */
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

  /** @throws the reason if the migration cannot continue */
  check(): void {
    const status = this.returnPath.shutStatus
    if (status === 0 && !this.#everythingSent) {
      throw new PeerError(
        'ERR_PEER_PROTOCOL',
        'the destination sent SHUT 0 before it had received everything',
      )
    }
    if (status !== undefined && status !== 0) {
      throw new PeerError(
        'ERR_PEER_REFUSED',
        `the destination failed (SHUT ${status}); see its own messages`,
      )
    }
    if (this.#link?.broken !== undefined) throw this.#link.broken
    // Once everything is sent, a destination may close the preempt channel before it sends SHUT.
    if (!this.#everythingSent && this.#urgentLink?.broken !== undefined)
      throw this.#urgentLink.broken
  }

  /** A SHUT message explains more than the failures that follow from it. */
  reasonFor(error: unknown): unknown {
    try {
      this.check()
      return this.#explain(error)
    } catch (reason) {
      return this.#explain(reason)
    }
  }

  /** A server that rejects our certificate just closes the connection. */
  #explain(error: unknown): unknown {
    const isClosed = error instanceof ConnectionError && error.code === CLOSED_BY_PEER
    const isSecured = this.#options.tls !== undefined && this.#link !== undefined
    if (!isClosed || !isSecured || this.#hasAnswered) return error
    return new ConnectionError(
      'ERR_TLS_REFUSED',
      'the destination closed the connection after the TLS handshake: it does not accept the certificate of this end, or has accepted another source; see its own messages',
      { cause: error },
    )
  }

  /** Ends all waits for the peer; its last message may still be read. */
  break(reason: PostcopyError): void {
    this.#link?.break(reason)
    this.signal.notify()
  }

  close(): void {
    this.#link?.close()
    this.#urgentLink?.close()
  }
}

/**
 * Takes one migration and brings it to disk. Like a destination, but nothing ever runs here, so
 * no page is ever asked for.
 *
 * ```
 * precopy    pages ─ devices, EOF ─ fsync, rename ─ SHUT 0
 * postcopy   pages ─ discards ─ package ─ fsync ─ PONG 0x42 ─ pages ─ EOF ─ fsync, rename ─ SHUT 0
 * ```
 *
 * Until the package is on disk, a failure leaves nothing here and the guest with its source. From
 * then on the source may hold nothing but pages for us: a failure only closes the connection, so
 * that it pauses, and what came stays. SHUT 0 is said when DIR is there, never before.
 *
 * ```
 * recovery   RECV_BITMAP ─ what came ─ RESUME ─ RESUME_ACK ─ pages ─ EOF ─ as above
 * ```
 */
import { ConnectionError, PeerError, PostcopyError, StateError } from '../errors.js'
import { ReturnPathWriter } from '../destination/index.js'
import type { Channel } from '../net/index.js'
import {
  type Counters,
  type MigrationState,
  now,
  type Parameters,
  StateMachine,
} from '../migration/index.js'
import {
  encodePong,
  encodeResumeAck,
  encodeShut,
  findPackagePings,
  type RamBlockInfo,
  StreamDecoder,
  type StreamHandler,
} from '../stream/index.js'
import { TARGET_PAGE_SIZE } from '../units.js'
import { explainFailure } from './explain.js'
import { MOST_DEVICE_BYTES, type Manifest } from './manifest.js'
import { holdSecondConnection } from './second-connection.js'
import type { VmStore } from './vm-store.js'

/** How long a source may take to close after the last word. */
const LINGER_MS = 5000

export interface ParkHost {
  stateChanged(state: MigrationState, error: unknown): void
  /** DIR is there. */
  parked(manifest: Manifest): void
  /** `DIR.incomplete` has every page: a recovery needs no source. */
  keptWhole(): void
}

export class ParkReceiver {
  readonly #host: ParkHost
  readonly #store: VmStore
  readonly #parameters: Parameters
  readonly #counters: Counters
  readonly #state: StateMachine
  readonly #decoder: StreamDecoder
  #channel: Channel | undefined
  /** Connections that came later: of preempt, or about to be turned away. */
  readonly #further = new Set<Channel>()
  readonly #isRecovery: boolean
  readonly #answers: ReturnPathWriter
  #pageSizeSummary: number | undefined
  #configuration: { machineType: string; raw: Uint8Array } | undefined
  #ramSectionId: number | undefined
  #postcopy: 'none' | 'advise' | 'discard' | 'listening' = 'none'
  /** DIR is there, the source has still to hear of it. */
  #hasParked = false

  constructor(host: ParkHost, store: VmStore, parameters: Parameters, counters: Counters) {
    this.#host = host
    this.#store = store
    this.#parameters = parameters
    this.#counters = counters
    this.#state = new StateMachine((state, error) => host.stateChanged(state, error))
    // A source that recovers says neither who it is nor that it listens.
    this.#isRecovery = store.devicesCommitted
    this.#answers = new ReturnPathWriter(parameters['x-max-unread-bytes'])
    this.#answers.isOpen = this.#isRecovery
    this.#decoder = new StreamDecoder(this.#handler(), {
      limits: {
        maxPackageBytes: Math.min(parameters['x-max-package-bytes'], MOST_DEVICE_BYTES),
      },
      ...(this.#isRecovery ? { resume: store.resumed } : {}),
    })
  }

  /** A listener is open, or a file. */
  ready(): void {
    this.#state.enter('setup')
  }

  /** The source is here. */
  get isConnected(): boolean {
    return this.#channel !== undefined
  }

  /** Takes the migration from this connection; every other one is turned away. */
  accept(channel: Channel): void {
    channel.detectSilence(this.#parameters['x-silence-timeout'])
    if (this.#channel !== undefined) {
      this.#hold(channel)
      return
    }
    this.#channel = channel
    this.#answers.connect(channel)
    this.begin()
    channel.start({
      consume: (bytes, start, end) => this.take(bytes, start, end),
      end: () => this.end(channel.peer),
      close: (error) => {
        if (error === undefined) this.end(channel.peer)
        else this.fail(error)
      },
    })
  }

  #hold(channel: Channel): void {
    if (this.#further.size >= this.#parameters['x-max-connections']) {
      channel.destroy()
      return
    }
    this.#further.add(channel)
    holdSecondConnection(channel, {
      multifd: () => {
        const text =
          'the source sends pages on further channels: turn off the capability multifd on the source'
        this.fail(new PeerError('ERR_PEER_CAPABILITY', text))
      },
      closed: () => void this.#further.delete(channel),
    })
  }

  begin(): void {
    this.#counters.startedAt = now()
    this.#state.enter('active')
  }

  /** Finishes a recovery for which the source owes nothing: all of its pages had been received. */
  finish(): void {
    this.ready()
    this.begin()
    this.#complete()
  }

  /** Takes the next bytes of the stream; returns how many it took. */
  take(bytes: Uint8Array, start: number, end: number): number {
    if (this.#isOver || this.#hasParked) return end - start
    try {
      this.#counters.transferredBytes += end - start
      const taken = this.#decoder.write(bytes, start, end)
      // What is left over comes again and would be counted twice.
      this.#counters.transferredBytes -= end - start - taken
      this.#answers.flush()
      this.#answers.checkUnread()
      if (this.#decoder.finished) this.#complete()
      return taken
    } catch (error) {
      this.fail(error)
      return end - start
    }
  }

  /** The stream has ended, or its source has closed it: `leftoverBytes` were not taken. */
  end(peer: string, leftoverBytes = 0): void {
    if (this.#isOver) return
    if (this.#hasParked) {
      this.#state.enter('completed')
      return
    }
    try {
      this.#decoder.end(leftoverBytes)
    } catch (error) {
      const offset = this.#decoder.streamOffset
      const text = `${peer} ended in the middle of the migration, at stream offset ${offset}`
      this.fail(new ConnectionError('ERR_CONNECTION_CLOSED', text, { cause: error }))
      return
    }
    try {
      // With a return path it waits for our word, which can no longer reach it.
      if (!this.#complete())
        throw new ConnectionError('ERR_CONNECTION_CLOSED', `${peer} has closed`)
    } catch (error) {
      this.fail(error)
    }
  }

  /** Gives up: before the package is kept, all of it; afterwards, what is still missing. */
  fail(error: unknown): void {
    if (this.#isOver) return
    this.#counters.endedAt = now()
    if (this.#hasParked) {
      // In postcopy the source pauses as well.
      const end = this.#state.is('postcopy-active') ? 'postcopy-paused' : 'failed'
      this.#state.enter(end, unconfirmed(this.#store.path, error))
      this.#channel?.destroy()
    } else if (this.#store.devicesCommitted) {
      this.#keep(error)
      this.#closeFurther()
      this.#channel?.destroy()
    } else {
      this.#store.remove()
      this.#hangUp(1)
      this.#state.enter('failed', this.#withoutGuest(error))
    }
  }

  /** Why nothing was parked, and where the guest is then. */
  #withoutGuest(error: unknown): unknown {
    if (this.#channel === undefined) return error
    // ADVISE comes before the section of RAM.
    const mayHaveSwitched = this.#postcopy !== 'none' || this.#ramSectionId === undefined
    return explainFailure(error, mayHaveSwitched)
  }

  #keep(error: unknown): void {
    let isWhole = this.#store.hasAllPages
    let kept = `what has come is in ${this.#store.path}`
    try {
      this.#store.leaveIncomplete()
    } catch (failure) {
      kept += ` (without the list of pages that came: ${messageOf(failure)})`
      // A recovery gets all of them again.
      isWhole = false
    }
    const owes = isWhole
      ? 'no page is missing: park --recover finishes it'
      : 'the other pages are with the source, which must not be ended'
    if (isWhole) this.#host.keptWhole()
    const text = `${messageOf(error)}; ${kept}; ${owes}`
    const isUnderWay = this.#state.is('postcopy-device', 'postcopy-active')
    this.#state.enter(
      isUnderWay ? 'postcopy-paused' : 'failed',
      new PostcopyError(codeOf(error), text, { cause: error }),
    )
  }

  #handler(): StreamHandler {
    return {
      configuration: (machineType, raw) => {
        this.#configuration = { machineType, raw }
      },
      openReturnPath: () => {
        this.#answers.isOpen = true
      },
      ping: (value) => this.#answers.queue((out) => encodePong(out, value)),
      advise: (summary, targetPageSize) => this.#advise(summary, targetPageSize),
      sectionStart: ({ id }) => {
        this.#ramSectionId = id
      },
      ramBlocks: (blocks) => this.#ramBlocks(blocks),
      ramRecords: (name, bytes, start, end) => this.#store.records(name, bytes, start, end),
      ramPage: (name, offset, bytes, start) => this.#store.page(name, offset, bytes, start),
      ramZero: (name, offset) => this.#store.zero(name, offset),
      ramDiscard: (name, ranges) => {
        if (this.#postcopy !== 'advise' && this.#postcopy !== 'discard') {
          this.#misplaced('POSTCOPY_RAM_DISCARD')
        }
        this.#postcopy = 'discard'
        this.#store.discard(name, ranges)
      },
      packaged: (blob, streamOffset) => this.#package(blob, streamOffset),
      deviceTail: (sections) => this.#store.takeDevices(sections, 'precopy'),
      vmDescription: (json) => this.#store.takeDescription(json),
      recvBitmap: (name) => {
        if (!this.#state.is('active') || !this.#isRecovery) this.#misplaced('RECV_BITMAP')
        const { received } = this.#store.block(name)
        this.#answers.queueBitmap(name, received.bytes)
      },
      resume: () => {
        if (!this.#state.is('active') || !this.#isRecovery) this.#misplaced('POSTCOPY_RESUME')
        this.#state.enter('postcopy-device')
        this.#state.enter('postcopy-active')
        this.#answers.send(encodeResumeAck)
      },
    }
  }

  #advise(summary: number | undefined, targetPageSize: number | undefined): void {
    if (this.#postcopy !== 'none') this.#misplaced('a second POSTCOPY_ADVISE')
    if (targetPageSize !== undefined && targetPageSize !== TARGET_PAGE_SIZE) {
      throw new PeerError(
        'ERR_PEER_PAGE_SIZE',
        `the source has target pages of ${targetPageSize} bytes; only ${TARGET_PAGE_SIZE} can be parked`,
      )
    }
    this.#pageSizeSummary = summary
    this.#postcopy = 'advise'
  }

  #ramBlocks(blocks: readonly RamBlockInfo[]): void {
    this.#channel?.checkReturnPath(this.#answers.isOpen)
    const configuration = this.#configuration
    if (configuration === undefined || this.#ramSectionId === undefined) return
    const { machineType, raw } = configuration
    const ordinary = lowestBit(this.#pageSizeSummary ?? TARGET_PAGE_SIZE)
    this.#store.begin(
      { machineType, configuration: raw, ramSectionId: this.#ramSectionId },
      blocks,
      ({ pageSizeBytes }) => pageSizeBytes ?? ordinary,
    )
  }

  #package(blob: Uint8Array, streamOffset: number): void {
    if (this.#postcopy !== 'discard' && this.#postcopy !== 'advise') this.#misplaced('PACKAGED')
    const { devices, pings } = findPackagePings(blob, streamOffset)
    this.#postcopy = 'listening'
    this.#state.enter('postcopy-device')
    this.#store.takeDevices(devices, 'postcopy')
    this.#store.commitDevices()
    this.#state.enter('postcopy-active')
    for (const value of pings) this.#answers.queue((out) => encodePong(out, value))
  }

  /**
   * Everything has come: brings it to disk, and only then says so.
   *
   * @returns whether that is the end, with nobody to hear of it
   */
  #complete(): boolean {
    const manifest = this.#store.complete()
    this.#hasParked = true
    this.#counters.endedAt = now()
    this.#host.parked(manifest)
    if (this.#channel === undefined || !this.#answers.isOpen) {
      this.#closeFurther()
      this.#state.enter('completed')
      return true
    }
    this.#hangUp(0)
    setTimeout(() => {
      this.fail(new ConnectionError('ETIMEDOUT', 'it does not close the connection'))
    }, LINGER_MS).unref()
    return false
  }

  #closeFurther(): void {
    for (const channel of this.#further) channel.destroy()
  }

  #misplaced(command: string): never {
    throw new StateError('ERR_STATE_COMMAND', `${command} has no place here`, this.#postcopy)
  }

  get #isOver(): boolean {
    return this.#state.is('completed', 'failed', 'postcopy-paused')
  }

  #hangUp(shutStatus: number): void {
    const channel = this.#channel
    this.#closeFurther()
    if (!this.#answers.isOpen) {
      // It cannot be told; what it goes on sending must not look as if it were taken.
      channel?.destroy()
      return
    }
    this.#answers.send((out) => encodeShut(out, shutStatus))
    channel?.endWriting()
    setTimeout(() => channel?.destroy(), LINGER_MS).unref()
  }
}

/** The VM is in DIR, but its source does not know: it may go on as well. */
function unconfirmed(path: string, cause: unknown): ConnectionError {
  return new ConnectionError(
    'ERR_CONNECTION_UNCONFIRMED',
    `the VM is parked in ${path}, but the source may not have heard of it (${messageOf(cause)}): resume it only if it does not run there`,
    { cause },
  )
}

function lowestBit(summary: number): number {
  let bit = TARGET_PAGE_SIZE
  while (summary > bit && summary % (bit * 2) === 0) bit *= 2
  return bit
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}

function codeOf(error: unknown): string {
  return error instanceof PostcopyError ? error.code : 'ERR_PARKED_INCOMPLETE'
}

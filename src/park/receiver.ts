/**
 * Receives one migration and writes it to disk, by the phases of a destination. No guest runs here,
 * so no page is ever requested.
 *
 * ```
 * precopy    pages ─ devices, EOF ─ fsync, rename ─ SHUT 0
 * postcopy   pages ─ discards ─ package ─ fsync ─ PONG 0x42 ─ pages ─ EOF ─ fsync, rename ─ SHUT 0
 * recovery   RECV_BITMAP ─ bitmaps ─ RESUME ─ RESUME_ACK ─ pages ─ EOF ─ fsync, rename ─ SHUT 0
 * ```
 *
 * Before the package is on disk, a failure leaves nothing here, and the source keeps its guest.
 * After that the source may have only pages. So a failure just closes the connection: the source
 * pauses, and the received pages stay here. SHUT 0 is never sent before DIR exists.
 */
import { type IncomingActions, type IncomingEvent, IncomingSession } from '../destination/index.js'
import { ConnectionError, PeerError, PostcopyError } from '../errors.js'
import type { Channel, SourceListenerHost } from '../net/index.js'
import { type Counters, type MigrationState, now, type Parameters } from '../migration/index.js'
import {
  encodePong,
  encodeResumeAck,
  findPackagePings,
  type RamBlockInfo,
  StreamDecoder,
  type StreamHandler,
} from '../stream/index.js'
import { TARGET_PAGE_SIZE } from '../units.js'
import { explainFailure } from './explain.js'
import { MOST_DEVICE_BYTES, type Manifest } from './manifest.js'
import { parkPhases } from './phases.js'
import { holdSecondConnection } from './second-connection.js'
import type { VmStore } from './vm-store.js'

/** How long a source may take to close the connection after SHUT. */
const LINGER_MS = 5000

export interface ParkHost {
  stateChanged(state: MigrationState, error: unknown): void
  /** DIR is complete. */
  parked(manifest: Manifest): void
  /** `DIR.incomplete` has every page: a recovery needs no source. */
  keptWhole(): void
}

export class ParkReceiver implements SourceListenerHost {
  readonly #host: ParkHost
  readonly #store: VmStore
  readonly #parameters: Parameters
  readonly #counters: Counters
  readonly #session: IncomingSession
  readonly #decoder: StreamDecoder
  /** Later connections: preempt channels, and those about to be rejected. */
  readonly #further = new Set<Channel>()
  #pageSizeSummary: number | undefined
  #configuration: { machineType: string; raw: Uint8Array } | undefined
  #ramSectionId: number | undefined
  #isAdvised = false
  /** The value of the source's last ping. */
  #lastPing: number | undefined

  constructor(host: ParkHost, store: VmStore, parameters: Parameters, counters: Counters) {
    this.#host = host
    this.#store = store
    this.#parameters = parameters
    this.#counters = counters
    const isRecovery = store.devicesCommitted
    this.#session = new IncomingSession(
      {
        phases: parkPhases,
        initial: isRecovery ? 'to-recover' : 'none',
        counters,
        parameters,
        lingerMs: LINGER_MS,
      },
      {
        stateChanged: (state, error) => host.stateChanged(state, error),
        decode: (bytes, start, end) => this.#decoder.write(bytes, start, end),
        afterRead: () => this.#afterRead(),
        closed: (channel, cause) => {
          if (cause === undefined) this.end(channel.peer)
          else this.fail(cause)
        },
        giveBack: () =>
          !store.devicesCommitted && !this.#session.phases.is('loaded', 'loaded-shut'),
        explain: (error) => this.#explain(error),
        failureActions: () => ({
          refuse: () => {
            store.remove()
            this.#closeFurther()
            this.#session.shut(1)
          },
          keepParked: () => undefined,
          close: () => {
            this.#closeFurther()
            this.#session.channel?.destroy()
          },
        }),
      },
    )
    // The source of a recovery does not open the return path again, but reads it.
    this.#session.returnPath.isOpen = isRecovery
    this.#decoder = new StreamDecoder(this.#handler(), {
      limits: {
        maxPackageBytes: Math.min(parameters['x-max-package-bytes'], MOST_DEVICE_BYTES),
      },
      ...(isRecovery ? { resume: store.resumed } : {}),
    })
  }

  /** Call when a listener, or a file, is open. */
  ready(): void {
    const { phases } = this.#session
    phases.take(phases.accepts('recover') ? 'recover' : 'listen')
  }

  /** Whether the source has connected. */
  get isConnected(): boolean {
    return this.#session.channel !== undefined
  }

  /** Receives the migration from this connection; every later one is held or rejected. */
  accept(channel: Channel): void {
    if (this.isConnected) this.#hold(channel)
    else this.#session.accept(channel)
  }

  /** Holds a silent connection that was made before the source's. */
  acceptEarly(channel: Channel): void {
    this.#hold(channel)
  }

  #hold(channel: Channel): void {
    channel.detectSilence(this.#parameters['x-silence-timeout'])
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

  /** Call when the first bytes of a file were read. */
  begin(): void {
    this.#session.begin()
  }

  /** Finishes a recovery for which all pages had been received before. */
  finish(): void {
    this.ready()
    this.begin()
    this.#complete()
  }

  /** Takes the next bytes of the stream. @returns how many it took */
  take(bytes: Uint8Array, start: number, end: number): number {
    return this.#session.take(bytes, start, end)
  }

  /**
   * Call when the stream has ended, or its source has closed it. `leftoverBytes` were not taken.
   */
  end(peer: string, leftoverBytes = 0): void {
    const { phases } = this.#session
    if (this.#session.isOver) return
    if (this.#session.hasShut) {
      phases.take('closed')
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
      this.#complete()
      // With a return path the source waits for SHUT, which can no longer reach it.
      if (phases.is('loaded-shut', 'running-shut')) {
        throw new ConnectionError('ERR_CONNECTION_CLOSED', `${peer} has closed`)
      }
    } catch (error) {
      this.fail(error)
    }
  }

  /**
   * Gives up. Removes everything if the devices are not on disk yet; otherwise keeps what was
   * received.
   */
  fail(error: unknown): void {
    this.#session.fail(error)
  }

  #afterRead(): void {
    const { returnPath } = this.#session
    returnPath.flush()
    returnPath.checkUnread()
    if (this.#decoder.finished) this.#complete()
  }

  /** Adds to the error what is kept in DIR.incomplete, and what the user can do. */
  #explain(error: unknown): unknown {
    this.#counters.endedAt = now()
    if (this.#session.hasShut) return unconfirmed(this.#store.path, error)
    if (this.#store.devicesCommitted) return this.#keep(error)
    if (this.#session.channel === undefined) return error
    // ADVISE precedes the RAM section, so after that section its absence proves a plain precopy.
    const mayHaveSwitched = this.#isAdvised || this.#ramSectionId === undefined
    return explainFailure(error, mayHaveSwitched)
  }

  #keep(error: unknown): PostcopyError {
    let isWhole = this.#store.hasAllPages
    let kept = `the received pages are in ${this.#store.path}`
    try {
      this.#store.leaveIncomplete()
    } catch (failure) {
      kept += ` (without the list of them: ${messageOf(failure)})`
      // Without the list, a recovery receives all pages again.
      isWhole = false
    }
    const owes = isWhole
      ? 'no page is missing: park --recover finishes it'
      : 'the source has the other pages, and must not be ended'
    if (isWhole) this.#host.keptWhole()
    const text = `${messageOf(error)}; ${kept}; ${owes}`
    return new PostcopyError(codeOf(error), text, { cause: error })
  }

  #handler(): StreamHandler {
    const take = (event: IncomingEvent, actions: IncomingActions): void =>
      this.#session.phases.take(event, actions)
    const beginDiscards = (): void => undefined
    const checkComplete = (): void => {
      if (this.#lastPing !== undefined && this.#store.devicesCommitted)
        this.#store.takeLeftOut(this.#lastPing)
    }
    return {
      configuration: (machineType, raw) => {
        this.#configuration = { machineType, raw }
      },
      openReturnPath: () => {
        this.#session.returnPath.isOpen = true
      },
      ping: (value) => {
        this.#lastPing = value
        this.#session.returnPath.queue((out) => encodePong(out, value))
      },
      advise: (summary, targetPageSize) =>
        take('POSTCOPY_ADVISE', { prepare: () => this.#prepare(summary, targetPageSize) }),
      sectionStart: ({ id }) => {
        this.#ramSectionId = id
      },
      sectionPart: () => this.#session.phases.check('RAM'),
      sectionEnd: () => this.#session.phases.check('RAM'),
      ramBlocks: (blocks) => this.#ramBlocks(blocks),
      ramRecords: (name, bytes, start, end) => this.#store.records(name, bytes, start, end),
      ramPage: (name, offset, bytes, start) => this.#store.page(name, offset, bytes, start),
      ramZero: (name, offset) => this.#store.zero(name, offset),
      ramDiscard: (name, ranges) =>
        take('POSTCOPY_RAM_DISCARD', {
          beginDiscards,
          discard: () => this.#store.discard(name, ranges),
        }),
      packaged: (blob, streamOffset) => this.#package(blob, streamOffset),
      deviceTail: (sections) =>
        take('DEVICES', {
          checkComplete,
          loadDevices: () => this.#store.takeDevices(sections, 'precopy'),
        }),
      endOfStream: () => take('EOF', { checkComplete, loadNothing: () => undefined }),
      vmDescription: (json) => this.#store.takeDescription(json),
      recvBitmap: (name) =>
        take('RECV_BITMAP', {
          sendBitmap: () => {
            const { received } = this.#store.block(name)
            this.#session.returnPath.queueBitmap(name, received.bytes)
          },
        }),
      resume: () => {
        const { phases, returnPath } = this.#session
        take('POSTCOPY_RESUME', { acknowledge: () => returnPath.send(encodeResumeAck) })
        // No other thread has to take the guest.
        phases.take('taken')
      },
    }
  }

  #prepare(summary: number | undefined, targetPageSize: number | undefined): void {
    if (targetPageSize !== undefined && targetPageSize !== TARGET_PAGE_SIZE) {
      throw new PeerError(
        'ERR_PEER_PAGE_SIZE',
        `the source has target pages of ${targetPageSize} bytes; only ${TARGET_PAGE_SIZE} can be parked`,
      )
    }
    this.#pageSizeSummary = summary
    this.#isAdvised = true
  }

  #ramBlocks(blocks: readonly RamBlockInfo[]): void {
    this.#session.channel?.checkReturnPath(this.#session.returnPath.isOpen)
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
    const { phases, returnPath } = this.#session
    let content: ReturnType<typeof findPackagePings> | undefined
    phases.take('PACKAGED', {
      beginDiscards: () => undefined,
      arm: () => {
        content = findPackagePings(blob, streamOffset)
      },
      loadPackage: () => {
        if (content === undefined) return
        this.#store.takeDevices(content.devices, 'postcopy')
        this.#store.commitDevices()
        phases.take('taken')
        for (const value of content.pings) returnPath.queue((out) => encodePong(out, value))
      },
    })
  }

  /** Everything has arrived: syncs it to disk, then tells the source, if there is a return path. */
  #complete(): void {
    const { phases, returnPath, channel } = this.#session
    const manifest = this.#store.complete()
    this.#counters.endedAt = now()
    this.#host.parked(manifest)
    this.#closeFurther()
    if (phases.is('loading')) phases.take('taken')
    const disarm = (): void => undefined
    if (channel === undefined || !returnPath.isOpen) {
      phases.take('whole', { disarm, confirm: () => undefined })
      return
    }
    phases.take('shut', { confirm: () => this.#session.shut(0) })
    setTimeout(() => {
      this.fail(new ConnectionError('ETIMEDOUT', 'it does not close the connection'))
    }, LINGER_MS).unref()
  }

  #closeFurther(): void {
    for (const channel of this.#further) channel.destroy()
  }
}

/** The VM is in DIR, but its source does not know that, and may run the guest, too. */
function unconfirmed(path: string, cause: unknown): ConnectionError {
  return new ConnectionError(
    'ERR_CONNECTION_UNCONFIRMED',
    `the VM is parked in ${path}, but the source may not have received the confirmation (${messageOf(cause)}): resume it only if it does not run there`,
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

/**
 * Sends one migration, by the table of phases (phases.ts).
 *
 * ```
 * connect ─ prologue ─ precopy rounds ─┬─ stop ─ END, devices ──────────────── SHUT 0
 *                                      └─ stop ─ discards, package ─ push all ─ SHUT 0
 * ```
 *
 * Before the end of the package is written, every failure leaves the guest running here. After that
 * the destination may run it: a failure pauses, and every page is kept.
 */
import { PostcopyError } from '../errors.js'
import {
  type Capabilities,
  type Counters,
  type MigrationState,
  now,
  type Parameters,
  pausedOnPurpose,
  type RamRange,
  PhaseMachine,
} from '../migration/index.js'
import type { MigrationUri, TlsClient } from '../net/index.js'
import { type DirtyLog, openDirtyLog } from '../ram/index.js'
import { encode, encodePing, PingValue } from '../stream/index.js'
import { type FinalElements, encodePrecopyEnd, encodePrologue, encodeSwitch } from './elements.js'
import type { SourceBlock } from './block.js'
import { DiscardAnnouncer, type TrackedRange, trackedRanges } from './discard-announcer.js'
import type { SourceLink } from './link.js'
import type { DirtyLogChoice, SavedDevices } from './protocol.js'
import { type SourcePhaseMachine, sourcePhases } from './phases.js'
import { precopy } from './precopy.js'
import { Session } from './session.js'
import { unconfirmed } from './unconfirmed.js'

/** Rounds of discards that are sent while the guest runs. */
const DISCARD_ROUNDS = 4

/** The main thread, as the sender needs it. */
export interface SenderHost {
  /** `error` says why, where the state is a failure. */
  stateChanged(state: MigrationState, error: unknown): void
  /** Resolves when the guest is stopped and its devices are saved. */
  stopGuest(): Promise<SavedDevices>
  resumeGuest(): void
  /** See the notice of that name. */
  passBegins(pass: number): void
  /** Called right before the last of the guest is sent: from then on only a refusal gives it back. */
  handingOver(how: 'precopy' | 'postcopy'): void
  /** Called where the destination has refused it behind that: the guest is here to stay. */
  givenBack(): void
  /** The destination has said that it has the guest. */
  claimed(): void
  /** The destination needs nothing any more. */
  confirmed(): void
}

export interface SenderOptions {
  readonly uri: MigrationUri
  readonly tls: TlsClient | undefined
  readonly machineType: string
  readonly configuration: Uint8Array | undefined
  readonly ramSectionId: number | undefined
  readonly capabilities: Capabilities
  readonly parameters: Parameters
  readonly loadRanges: readonly RamRange[]
  readonly dirtyLog: DirtyLogChoice
  readonly postcopyAtOnce: boolean
  readonly pageOrder?: SharedArrayBuffer | undefined
}

export class Sender {
  #parameters: Parameters
  readonly #host: SenderHost
  readonly #options: SenderOptions
  readonly #counters: Counters
  readonly #blocks: readonly SourceBlock[]
  readonly #session: Session
  readonly #loadRanges: readonly TrackedRange[]
  readonly #discards: DiscardAnnouncer
  readonly #phases: SourcePhaseMachine
  readonly #cancel = new AbortController()
  #dirtyLog: DirtyLog | undefined
  #postcopyRequested: boolean
  #stoppedAt = 0
  #dirtySyncCount = 0

  constructor(
    host: SenderHost,
    blocks: readonly SourceBlock[],
    options: SenderOptions,
    counters: Counters,
  ) {
    this.#host = host
    this.#options = options
    this.#parameters = options.parameters
    this.#counters = counters
    this.#blocks = blocks
    this.#postcopyRequested = options.postcopyAtOnce
    this.#phases = new PhaseMachine(sourcePhases, 'none', (state, error) =>
      host.stateChanged(state, error),
    )
    this.#loadRanges = trackedRanges(blocks, options.loadRanges)
    this.#discards = new DiscardAnnouncer(blocks, this.#loadRanges)
    const { uri, tls, ramSectionId, capabilities, pageOrder } = options
    const { signal } = this.#cancel
    this.#session = new Session(
      blocks,
      {
        uri,
        tls,
        ramSectionId,
        capabilities,
        parameters: () => this.#parameters,
        signal,
        pageOrder,
      },
      counters,
      { changed: () => this.#noteReturnPath() },
    )
  }

  /** Never throws: how it ended is the last state, and by then everything here is let go. */
  async run(): Promise<void> {
    this.#counters.startedAt = now()
    try {
      await this.#migrate()
      this.#phases.take('confirmed', {
        confirm: () => this.#host.confirmed(),
        release: () => this.#release(),
      })
    } catch (error) {
      const reason = this.#cancel.signal.aborted ? cancelled() : this.#session.reasonFor(error)
      this.#release()
      this.#fail(reason)
    }
  }

  #release(): void {
    this.#counters.endedAt = now()
    this.#dirtyLog?.close()
    this.#session.close()
  }

  get parameters(): Parameters {
    return this.#parameters
  }

  /** Takes effect at once, also on what waits for a limit that was changed. */
  set parameters(parameters: Parameters) {
    this.#parameters = parameters
    this.#session.signal.notify()
  }

  /** Switches as soon as possible, however much remains. Harmless when it is over or under way. */
  startPostcopy(): void {
    this.#postcopyRequested = true
    this.#session.signal.notify()
  }

  /** Gives the guest back, unless the end of its package is written: then nothing happens. */
  cancel(): void {
    if (!this.#phases.accepts('cancel')) return
    this.#phases.take('cancel')
    this.#cancel.abort()
    // The destination may have stopped reading: waits for nothing it has to do.
    this.#session.break(cancelled())
  }

  /** Breaks the connection of a guest that runs at the destination; else nothing happens. */
  pause(): void {
    if (this.#phases.is('pushing')) this.#session.break(pausedOnPurpose())
  }

  async #migrate(): Promise<void> {
    const session = this.#session
    const { capabilities, machineType, configuration, dirtyLog } = this.#options
    this.#phases.take('connect')
    const link = await session.connect()
    link.write(
      encodePrologue({
        machineType,
        configuration,
        ramSectionId: session.ram.sectionId,
        blocks: this.#blocks.map(({ block }) => block),
        capabilities,
      }),
    )
    await session.openUrgentLinkIfAwaited()
    await session.acceptance()
    for (const { dirty } of this.#blocks) dirty.setAll()
    session.ram.recount()
    if (dirtyLog !== 'none') this.#dirtyLog = openDirtyLog(this.#blocks, dirtyLog)
    this.#countPass()
    session.check()
    this.#phases.take('connected')
    this.#counters.setupMs = now() - this.#counters.startedAt

    const way = await this.#precopy(link)
    // A plain precopy has no ping here.
    if (way === 'postcopy') {
      await session.establishUrgentLink(link)
      await this.#announceDiscards(link)
    }
    const devices = await this.#stopGuest()
    if (way === 'postcopy') {
      await this.#switchToPostcopy(link, devices)
      await session.sendAll(link)
    } else {
      this.#counters.downtimeBytes += await session.sendEnd(link)
      await this.#handOver(link, encodePrecopyEnd(devices, session.ram.sectionId), 'precopy')
      session.everythingSent()
    }
    await this.#confirmed(link)
  }

  #precopy(link: SourceLink): Promise<'precopy' | 'postcopy'> {
    return precopy(link, {
      ram: this.#session.ram,
      counters: this.#counters,
      parameters: () => this.#parameters,
      syncDirtyPages: () => {
        this.#dirtyLog?.sync()
        this.#countPass()
      },
      mayPostcopy: this.#mayPostcopy,
      postcopyRequested: () => this.#postcopyRequested,
      check: () => this.#session.check(),
    })
  }

  /** One look at the start, one after each round, one when the guest is stopped. */
  #countPass(): void {
    this.#dirtySyncCount += 1
    this.#counters.dirtySyncCount = this.#dirtySyncCount
    this.#host.passBegins(this.#dirtySyncCount)
  }

  async #stopGuest(): Promise<SavedDevices> {
    this.#session.check()
    this.#phases.take('stop')
    this.#stoppedAt = now()
    this.#counters.stoppedAt = this.#stoppedAt
    const devices = await this.#host.stopGuest()
    this.#session.check()
    // The look through all of RAM takes a millisecond for some GiB, in which the guest stands still.
    const isAllDirty = this.#blocks.every(({ block, dirty }) => dirty.count() === block.pageCount)
    if (!isAllDirty) this.#dirtyLog?.sync()
    this.#countPass()
    this.#session.ram.recount()
    return devices
  }

  async #announceDiscards(link: SourceLink): Promise<void> {
    for (let round = 0; round < DISCARD_ROUNDS; round += 1) {
      this.#dirtyLog?.sync()
      if (this.#discards.isNearlyDone) break
      this.#discards.announce(link)
      // So that the guest is stopped for less: the destination has nothing else left to do.
      if (!(await this.#session.push.drain(link))) break
    }
    // So that no code has to be compiled first while the guest stands still.
    encodeSwitch([], this.#session.ram.sectionId)
  }

  /** Names what was written since, and hands over. */
  async #switchToPostcopy(link: SourceLink, devices: SavedDevices): Promise<void> {
    await this.#sendLoadRanges(link)
    this.#discards.announceRest(link)
    this.#counters.discardedPages = this.#session.ram.recount()
    for (const { dirty, owed } of this.#blocks) owed.bytes.set(dirty.bytes)
    this.#session.ram.beginPostcopy()
    await this.#handOver(link, encodeSwitch(devices, this.#session.ram.sectionId), 'postcopy')
    this.#noteReturnPath()
    link.write(encode((out) => encodePing(out, PingValue.afterPackage)))
  }

  /** The last of precopy: whoever loads the devices does not have to wait for these pages. */
  async #sendLoadRanges(link: SourceLink): Promise<void> {
    const { ram } = this.#session
    for (const { tracked, first, end } of this.#loadRanges) ram.request(tracked, first, end)
    this.#counters.downtimeBytes += await link.sendBatch((out) => ram.packRequested(out))
  }

  /** Sends what makes the destination run the guest; the end of it only when the rest has left. */
  async #handOver(
    link: SourceLink,
    { body, last }: FinalElements,
    how: 'precopy' | 'postcopy',
  ): Promise<void> {
    await link.writeAll(body)
    this.#session.check()
    this.#phases.take(how === 'precopy' ? 'send-precopy' : 'send-package', {
      handOverPrecopy: () => this.#host.handingOver('precopy'),
      handOverPostcopy: () => this.#host.handingOver('postcopy'),
    })
    link.write(last)
  }

  /** Waits for the destination's word; without a return path, for the last byte to be taken. */
  async #confirmed(link: SourceLink): Promise<void> {
    if (this.#hasReturnPath) await this.#session.confirmed()
    else {
      if (!(await link.taken())) this.#session.check()
      link.endWriting()
    }
    if (this.#phases.is('precopy-sent')) this.#countDowntime()
    // A destination that has everything has loaded the devices, whether or not it has sent the pong.
    if (this.#phases.is('package-sent')) this.#loaded()
  }

  /** After each piece of the return path. */
  #noteReturnPath(): void {
    if (!this.#phases.is('package-sent') || !this.#session.push.packageLoaded) return
    this.#loaded()
  }

  #loaded(): void {
    this.#countDowntime()
    this.#phases.take('loaded', { claim: () => this.#host.claimed() })
  }

  #countDowntime(): void {
    this.#counters.downtimeMs = now() - this.#stoppedAt
  }

  #fail(error: unknown): void {
    const status = this.#session.returnPath.shutStatus
    const event = status === undefined || status === 0 ? 'broken' : 'refused'
    const isUnconfirmed = event === 'broken' && this.#phases.is('precopy-sent')
    this.#phases.take(
      event,
      {
        giveBack: () => this.#host.givenBack(),
        resumeGuest: () => this.#host.resumeGuest(),
      },
      isUnconfirmed ? unconfirmed(error) : error,
    )
  }

  get #mayPostcopy(): boolean {
    return this.#options.capabilities['postcopy-ram']
  }

  get #hasReturnPath(): boolean {
    return this.#mayPostcopy || this.#options.capabilities['return-path']
  }
}

function cancelled(): PostcopyError {
  return new PostcopyError(
    'ABORT_ERR',
    'the migration was cancelled before the guest was handed over: it stays here',
  )
}

/**
 * Sends one migration, by the table of phases (phases.ts).
 *
 * ```
 * connect ─ prologue ─ precopy rounds ─┬─ stop ─ END, devices ──────────────── SHUT 0
 *                                      └─ stop ─ discards, package ─ push all ─ SHUT 0
 * ```
 *
 * Until the end of the package is written, every failure leaves the guest running here. After that
 * the destination may run it: a failure pauses the migration, and every page is kept.
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
import { MemoryRegion } from '../kernel/index.js'
import { type DirtyLog, openDirtyLog, UntouchedPages } from '../ram/index.js'
import { encode, encodePing, PingValue } from '../stream/index.js'
import { type FinalElements, encodePrecopyEnd, encodePrologue, encodeSwitch } from './elements.js'
import type { SourceBlock } from './block.js'
import { DiscardAnnouncer, type TrackedRange, trackedRanges } from './discard-announcer.js'
import type { SourceLink } from './link.js'
import type { DirtyLogChoice, SavedDevices } from './protocol.js'
import { type SourcePhaseMachine, sourcePhases } from './phases.js'
import { precopy } from './precopy.js'
import { hasReturnPath, Session } from './session.js'
import { unconfirmed } from './unconfirmed.js'

/** Most rounds of discards while the guest runs. */
const DISCARD_ROUNDS = 4

/** The main thread's functions that the sender calls. */
export interface SenderHost {
  /** `error`: the reason, if the state is a failure. */
  stateChanged(state: MigrationState, error: unknown): void
  /** Resolves when the guest is stopped and its devices are saved. */
  stopGuest(): Promise<SavedDevices>
  resumeGuest(): void
  /** See the notice `pass`. */
  passBegins(pass: number): void
  /** Called right before the last bytes of the guest are sent. Then only a refusal returns it. */
  handingOver(how: 'precopy' | 'postcopy'): void
  /** Called if the destination refuses the guest after that: it stays here. */
  givenBack(): void
  /** The destination has confirmed that it has the guest. */
  claimed(): void
  /** The destination has confirmed that it needs nothing more. */
  confirmed(): void
}

export interface SenderOptions {
  readonly uri: MigrationUri
  readonly tls: TlsClient | undefined
  readonly machineType: string
  readonly configuration: Uint8Array | undefined
  readonly earlySections?: Uint8Array | undefined
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
  readonly #untouched: UntouchedPages[] = []
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
      this.#phases,
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
      { loaded: () => this.#loaded() },
    )
  }

  /** Never throws: the last state tells the result, and all resources are released before it. */
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

  /** Takes effect at once, also on waits for a limit that has changed. */
  set parameters(parameters: Parameters) {
    this.#parameters = parameters
    this.#session.signal.notify()
  }

  /**
   * Switches as soon as possible, however much remains. Does nothing during or after the switch.
   */
  startPostcopy(): void {
    this.#postcopyRequested = true
    this.#session.signal.notify()
  }

  /** Cancels, unless the last bytes of the guest were already sent: then nothing happens. */
  cancel(): void {
    if (!this.#phases.accepts('cancel')) return
    this.#phases.take('cancel')
    this.#cancel.abort()
    // Does not wait for the destination, which may have stopped reading.
    this.#session.break(cancelled())
  }

  /** Breaks the connection if the guest runs at the destination; otherwise does nothing. */
  pause(): void {
    if (this.#phases.is('pushing')) this.#session.break(pausedOnPurpose())
  }

  async #migrate(): Promise<void> {
    const session = this.#session
    const { capabilities, machineType, configuration, earlySections, dirtyLog } = this.#options
    this.#phases.take('connect')
    const link = await session.connect()
    link.write(
      encodePrologue({
        machineType,
        configuration,
        earlySections,
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
    // A plain precopy sends no ping here.
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

  /** Counts one pass at the start, one after each round, and one after the guest is stopped. */
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
    // Skipped if all pages are dirty and none is untouched: scanning a few GiB costs a millisecond of
    // downtime.
    const isAllDirty = this.#blocks.every(
      ({ block, dirty }) =>
        this.#dirtyLog?.untouched(block) === undefined && dirty.count() === block.pageCount,
    )
    if (!isAllDirty) this.#dirtyLog?.sync()
    for (const untouched of this.#untouched) untouched.confirm()
    for (const { block, data } of this.#blocks) {
      const untouched = this.#dirtyLog?.untouched(block)
      if (untouched !== undefined) data.remove(untouched)
    }
    this.#countPass()
    this.#session.ram.recount()
    return devices
  }

  async #announceDiscards(link: SourceLink): Promise<void> {
    for (let round = 0; round < DISCARD_ROUNDS; round += 1) {
      this.#dirtyLog?.sync()
      if (this.#discards.isNearlyDone) break
      this.#discards.announce(link)
      // Reduces downtime: the destination has no other work left when the guest stops.
      if (!(await this.#session.push.drain(link))) break
    }
    for (const { block, data } of this.#blocks) {
      if (!(block.pages instanceof MemoryRegion)) continue
      // The dirty log knows the untouched pages of anonymous memory.
      if (this.#dirtyLog !== undefined && block.pages.kind === 'anon') continue
      this.#untouched.push(UntouchedPages.find(block, data))
    }
    // Compiles this code before the guest is stopped.
    encodeSwitch([], this.#session.ram.sectionId)
  }

  /** Discards what was written since, and hands the guest over. */
  async #switchToPostcopy(link: SourceLink, devices: SavedDevices): Promise<void> {
    await this.#sendLoadRanges(link)
    this.#discards.announceRest(link)
    this.#counters.discardedPages = this.#session.ram.recount()
    for (const { dirty, owed } of this.#blocks) owed.bytes.set(dirty.bytes)
    this.#session.leaveOutZeroPages()
    this.#session.ram.beginPostcopy()
    await this.#handOver(link, encodeSwitch(devices, this.#session.ram.sectionId), 'postcopy')
    link.write(encode((out) => encodePing(out, PingValue.afterPackage)))
  }

  /** The last pages of precopy: loading the devices does not have to wait for them. */
  async #sendLoadRanges(link: SourceLink): Promise<void> {
    const { ram } = this.#session
    for (const { tracked, first, end } of this.#loadRanges) ram.request(tracked, first, end)
    this.#counters.downtimeBytes += await link.sendBatch((out) => ram.packRequested(out))
  }

  /**
   * Sends the elements that let the destination run the guest; `last` only after `body` was taken.
   */
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

  /** Waits for SHUT 0; without a return path, until the kernel has taken the last byte. */
  async #confirmed(link: SourceLink): Promise<void> {
    if (this.#hasReturnPath) await this.#session.confirmed()
    else {
      if (!(await link.taken())) this.#session.check()
      link.endWriting()
    }
    if (this.#phases.is('precopy-sent')) this.#countDowntime()
    // SHUT 0 implies that the devices are loaded, even if the pong was never sent.
    if (this.#phases.is('package-sent')) this.#loaded()
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
    return hasReturnPath(this.#options.capabilities)
  }
}

function cancelled(): PostcopyError {
  return new PostcopyError(
    'ABORT_ERR',
    'the migration was cancelled before the switch: the guest stays here',
  )
}

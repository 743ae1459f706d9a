/** The destination as its user sees it: starts the worker, loads the devices and runs the guest. */
import { once } from 'node:events'
import { isMainThread } from 'node:worker_threads'
import {
  type ErrorRecord,
  PostcopyError,
  StateError,
  errorFromRecord,
  errorToRecord,
} from '../errors.js'
import type { Userfaultfd } from '../kernel/index.js'
import { bundledEntry, exitWithParkedThreads } from '../kernel/internal.js'
import {
  attachWhileOpen,
  AutoRecovery,
  callHook,
  type Capabilities,
  checkMachine,
  checkOptionNames,
  checkOptionValues,
  checkTaken,
  checkThreadIds,
  closedByOwner,
  type GuestLocation,
  isAtRest,
  isBoolean,
  isFinal,
  type MigratableMachine,
  Migration,
  type MigrationOptions,
  type MigrationState,
  own,
  type Parameters,
  refusePause,
  refuseRecover,
  releaseUserfaultfd,
  resolveOptions,
  warnOfMemoryLimit,
  workerLost,
  WorkerThread,
} from '../migration/index.js'
import {
  formatUri,
  isPlaintext,
  parseUri,
  removeStale,
  serverCredentials,
  type TlsCredentials,
} from '../net/index.js'
import { PageBitmap } from '../ram/index.js'
import {
  decodeDeviceSections,
  decodePackage,
  findPackagePings,
  PingValue,
  type Reader,
  type SectionHeader,
} from '../stream/index.js'
import { TARGET_PAGE_SIZE, assertNever } from '../units.js'
import { Claim, locationAtDestination } from './claim.js'
import { type FaultReport, createFaultLog, reportFaults, setVcpus } from './fault-log.js'
import type {
  Announced,
  DestinationNotice,
  DestinationRequest,
  DestinationWorkerData,
  Resumption,
  SharedBlock,
} from './protocol.js'

export interface DestinationOptions extends MigrationOptions {
  /** Where to listen: `tcp:HOST:PORT` (port 0: the kernel picks one) or `unix:PATH`. */
  uri: string
  /** Handle faults of user code only, as an ordinary user must. Default: what the kernel allows. */
  userModeOnly?: boolean
}

/** Of closed destinations that were paused: threads are parked there, until the process ends. */
const keptOpen = new Set<Userfaultfd>()

/** How each page of a block came, one bit a target page. */
export interface PageArrivals {
  readonly name: string
  readonly pageCount: number
  /** By precopy, and not discarded. */
  readonly precopied: PageBitmap
  /** After a fault here had asked for it. */
  readonly requested: PageBitmap
  readonly received: PageBitmap
}

/** Added to the error, since the source cannot tell its user. */
const NO_WAY_BACK =
  '. The source did not wait for its devices to be loaded, as a QEMU before 10.2 does not: its guest ' +
  'stays stopped there, as postcopy-paused, and cont is refused. Start it again from its disk or a snapshot; ' +
  'a precopy loads the devices while the source can still take its guest back'

/**
 * An incoming migration, begun by {@link Destination.listen}. The machine's RAM is emptied when
 * the source arrives; huge pages of it are made present before it listens, which takes a second for
 * some GiB, and are overwritten page by page. Its vCPUs are started when its state has been loaded.
 *
 * A migration that fails before the guest is claimed here leaves it to the source. Later failures
 * lead to `postcopy-paused`: the guest runs on as far as its pages reach, threads that need a missing
 * one stay parked, and {@link Destination.recover} goes on as often as it takes.
 *
 * After the devices are loaded, the main thread must not touch guest RAM that may be missing, before
 * the migration is `completed`. It waits for the page, and while it waits it gets no events and cannot
 * recover. Where no worker can place the page (the connection breaks meanwhile, the worker ends, or
 * the migration is `postcopy-paused` already, also after {@link Destination.close}), the process ends
 * with status 1 and a message on standard error.
 *
 * A machine whose `resumeAfterLoad` throws keeps its guest: the source may not run it any more. The
 * machine is stopped, all pages are received, {@link Migration.error} says why, `done` rejects with
 * that in the end, and the owner may call `start` of the machine at any time from then on.
 */
export class Destination extends Migration {
  readonly capabilities: Readonly<Capabilities>
  readonly #machine: MigratableMachine
  readonly #options: DestinationOptions
  #parameters: Parameters
  readonly #blocks: readonly SharedBlock[]
  readonly #faultLog = createFaultLog()
  readonly #claim = new Claim()
  readonly #autoRecovery = new AutoRecovery({
    parameters: () => this.#parameters,
    recover: () => this.recover(),
  })
  #worker: WorkerThread<DestinationRequest, DestinationNotice>
  /** The machine may be in another migration. */
  readonly #disown: () => void
  /** Why this machine cannot take what came: nothing more of it is looked at. */
  #refusal: ErrorRecord | undefined
  /** Why the machine did not start although the guest is here. */
  #startFailure: ErrorRecord | undefined
  #announced: Announced | undefined
  /** Told to recover; `begun` by a worker that has not said so yet. */
  #recovering: false | 'asked' | 'begun' = false
  #uri: string
  #uffd: Userfaultfd | undefined
  #userModeOnly: boolean
  #hasPackage = false
  /** What a refusal of the devices does at the source, where its user has to know. */
  #endsAtSource = ''

  /**
   * Resolves when a source may connect.
   *
   * @throws ConnectionError where it cannot listen; KernelError `ENOMEM` where huge pages are short;
   *   PostcopyError, as `Source.migrate` does, for
   *   what it is given, before anything begins
   */
  static async listen(
    machine: MigratableMachine,
    options: DestinationOptions,
  ): Promise<Destination> {
    const destination = new Destination(machine, options)
    await Promise.race([once(destination, 'listening'), destination.done])
    return destination
  }

  private constructor(machine: MigratableMachine, options: DestinationOptions) {
    super()
    checkOptionNames(options, ['uri', 'capabilities', 'parameters', 'userModeOnly'])
    checkOptionValues(options, { userModeOnly: isBoolean })
    checkMachine(machine)
    warnOfMemoryLimit(machine)
    const { capabilities, parameters } = resolveOptions(options)
    this.capabilities = capabilities
    this.#parameters = parameters
    this.#machine = machine
    this.#options = options
    this.#uri = options.uri
    this.#userModeOnly = options.userModeOnly ?? false
    this.#blocks = machine.blocks.map(({ name, region, lengthBytes, pageSizeBytes }) => {
      const bitmap = (): Uint8Array => new PageBitmap(lengthBytes / TARGET_PAGE_SIZE).bytes
      const bitmaps = {
        received: bitmap(),
        zeroed: bitmap(),
        requested: bitmap(),
        precopied: bitmap(),
      }
      return { name, regionId: region.id, lengthBytes, pageSizeBytes, ...bitmaps }
    })
    parseUri(options.uri)
    const tls = serverCredentials(parameters)
    this.#disown = own(machine, this, 'destination')
    try {
      this.#worker = this.#startWorker(options.uri, tls, undefined)
    } catch (error) {
      this.#disown()
      throw error
    }
  }

  #startWorker(
    uri: string,
    tls: TlsCredentials | undefined,
    resumption: Resumption | undefined,
  ): WorkerThread<DestinationRequest, DestinationNotice> {
    const workerData: DestinationWorkerData = {
      uri: parseUri(uri),
      tls,
      machineType:
        this.#machine.checkConfiguration === undefined ? this.#machine.machineType : undefined,
      blocks: this.#blocks,
      capabilities: this.capabilities,
      parameters: this.#parameters,
      userModeOnly: this.#options.userModeOnly,
      ownerThreadId: isMainThread ? process.pid : undefined,
      resumption,
      counters: this.counters.buffer,
      faultLog: this.#faultLog,
      claim: this.#claim.buffer,
    }
    return new WorkerThread(bundledEntry('destination/worker'), 'destination', workerData, {
      notice: (notice) => this.#notice(notice),
      ended: (cause) => this.#workerEnded(cause),
    })
  }

  /** Where it listens, with the port that the kernel picked. */
  get uri(): string {
    return this.#uri
  }

  override get isPlaintext(): boolean {
    return isPlaintext(parseUri(this.#uri), this.#parameters)
  }

  /** Changes what the next {@link recover} goes by. */
  setParameters(parameters: Partial<Parameters>): void {
    const resolved = resolveOptions({ parameters: { ...this.#parameters, ...parameters } })
    this.#parameters = resolved.parameters
  }

  /** Whether the guest is `here`, running or stopped by its owner; otherwise it is the source's. */
  get guestLocation(): Exclude<GuestLocation, 'unknown'> {
    return locationAtDestination(this.#claim.state)
  }

  /** Whether faults from inside the kernel fail with EFAULT instead of waiting for their page. */
  get userModeOnly(): boolean {
    return this.#userModeOnly
  }

  /** Live: how long faults took; undefined where postcopy has not begun. */
  get faults(): FaultReport | undefined {
    return this.#hasPackage ? reportFaults(this.#faultLog) : undefined
  }

  /** Live: how each page came. */
  get pageArrivals(): PageArrivals[] {
    return this.#blocks.map(({ name, lengthBytes, precopied, requested, received }) => {
      const pageCount = lengthBytes / TARGET_PAGE_SIZE
      const view = (bytes: Uint8Array): PageBitmap => new PageBitmap(pageCount, bytes)
      return {
        name,
        pageCount,
        precopied: view(precopied),
        requested: view(requested),
        received: view(received),
      }
    })
  }

  /**
   * Shuts the connection: both ends become `postcopy-paused`. The guest runs on as far as its
   * pages reach.
   *
   * A recovery under way is given up.
   *
   * @throws StateError `ERR_STATE_PAUSE` outside `postcopy-active` and recovery
   */
  pause(): void {
    refusePause(this.state)
    this.#worker.post({ type: 'pause' })
  }

  /**
   * Listens for the source again. Resolves when it may connect; what fails later leads back to
   * `postcopy-paused`.
   *
   * @param uri - default: where it listened last
   * @returns where it listens, with the port that the kernel picked
   * @throws StateError `ERR_STATE_RECOVER` outside `postcopy-paused`; ConnectionError where it
   *   cannot listen; PostcopyError `ERR_INVALID_URI`, `ERR_TLS_CREDENTIALS`, `ERR_CLOSED`
   */
  async recover(uri: string = this.#uri): Promise<string> {
    this.#refuseEnded()
    refuseRecover(this.state, this.#recovering !== false)
    parseUri(uri)
    const tls = serverCredentials(this.#parameters)
    const announced = this.#announced
    const uffd = this.#uffd
    if (announced === undefined || uffd === undefined) {
      throw new PostcopyError('ERR_INTERNAL', 'paused before anything was announced')
    }
    this.#recovering = 'asked'
    this.#autoRecovery.stop()
    await this.#worker.ended
    this.#refuseEnded()
    this.#recovering = 'begun'
    const listening = new Promise<void>((resolve, reject) => {
      const settle = (act: () => void): void => {
        this.off('listening', succeed)
        this.off('state', look)
        act()
      }
      const succeed = (): void => settle(resolve)
      const look = (state: MigrationState, error: PostcopyError | undefined): void => {
        if (isAtRest(state) && error !== undefined) settle(() => reject(error))
      }
      this.on('listening', succeed)
      this.on('state', look)
    })
    this.#worker = this.#startWorker(uri, tls, { announced, userfaultfdId: uffd.id })
    await listening
    return this.#uri
  }

  /**
   * Ends the worker and stops listening. While postcopy is not complete, threads that need a
   * missing page stay parked for good: their memory is lost with this process, which may need
   * {@link abandon} to end. Until it resolves,
   * events are sent; a `done` that is pending rejects with `ERR_CLOSED`. May be called twice.
   */
  async close(): Promise<void> {
    this.endByOwner(closedByOwner())
    this.#autoRecovery.stop()
    // A worker that is done stays until the source has read its last word, and ends by itself.
    if (isFinal(this.state)) await this.#worker.ended
    else await this.#worker.terminate()
    const uri = parseUri(this.#uri)
    // A worker that was ended leaves its socket's file behind.
    if (uri.type === 'unix') await removeStale(uri.path)
    if (this.state === 'postcopy-paused' && this.#uffd !== undefined) keptOpen.add(this.#uffd)
    this.settleByOwner()
  }

  /**
   * Gives the guest up where it is here and misses pages: closes as {@link close} does, and from then
   * on `process.exit()` ends the process although workers of the program are parked in missing
   * pages. Without this it waits for them for ever. Nothing is woken, so nothing reads zeros: parked
   * threads end with the process. `exit` listeners that are added later are not called.
   *
   * Where every page is here, or the guest is not, it does what `close()` does. A destination in a worker
   * cannot end the process by `process.exit()`: use `exitProcess` of `postcopy/kernel`.
   */
  async abandon(): Promise<void> {
    await this.close()
    if (this.state === 'postcopy-paused') exitWithParkedThreads()
  }

  #refuseEnded(): void {
    if (this.endedByOwner !== undefined) throw this.endedByOwner
  }

  #notice(notice: DestinationNotice): void {
    switch (notice.type) {
      case 'listening':
        this.#uri = formatUri(notice.uri)
        this.emit('listening', this.#uri)
        break
      case 'refused':
        this.emit('refused', errorFromRecord(notice.error))
        break
      case 'announced':
        this.#announced = notice.announced
        break
      case 'userfaultfd':
        this.#uffd ??= attachWhileOpen(notice.id)
        this.#userModeOnly = notice.userModeOnly
        break
      case 'configuration':
        this.#load(() => this.#checkConfiguration(notice.machineType, notice.raw))
        break
      case 'package':
        this.#hasPackage = true
        this.#loadPackage(notice.blob, notice.streamOffset)
        break
      case 'devices':
        this.#loadDevices(notice.sections, notice.streamOffset)
        break
      case 'state':
        this.#workerEntered(notice.state, notice.error)
        break
      default:
        assertNever(notice)
    }
  }

  /** Loading may touch guest RAM that is not there: this thread then waits for its own worker. */
  #loadPackage(blob: Uint8Array, streamOffset: number): void {
    this.#load(() => {
      // Its end is checked first: the last pong is a promise to run.
      const { devices, pings } = findPackagePings(blob, streamOffset)
      if (!pings.includes(PingValue.packageLoaded)) this.#endsAtSource = NO_WAY_BACK
      if (this.#machine.loadOpaque !== undefined) {
        this.#loadOpaque(devices)
        for (const value of pings) this.#pong(value)
        this.#run()
        return
      }
      decodePackage(
        blob,
        {
          device: (header, body) => this.#loadDevice(header, body, blob, streamOffset),
          ping: (value) => this.#pong(value),
          run: () => this.#run(),
        },
        streamOffset,
      )
    })
  }

  #loadDevices(sections: Uint8Array, streamOffset: number): void {
    this.#load(() => {
      const load = (header: SectionHeader, body: Reader): void =>
        this.#loadDevice(header, body, sections, streamOffset)
      if (this.#machine.loadOpaque === undefined) {
        decodeDeviceSections(sections, load, streamOffset)
      } else this.#loadOpaque(sections)
      this.#run()
    })
  }

  #load(load: () => void): void {
    // Of a worker that was ended, nobody would serve the pages that devices touch.
    if (this.#refusal !== undefined || this.endedByOwner !== undefined) return
    try {
      load()
    } catch (error) {
      if (this.#claim.giveBack()) {
        // Of the package's errors, all are made here.
        if (error instanceof PostcopyError) error.message += this.#endsAtSource
        this.#refusal = this.recordHookError(error)
        this.#worker.post({ type: 'load-failed', error: this.#refusal })
      } else void this.#startFailed(error)
    }
  }

  /**
   * The source was promised that the guest is here, and some vCPUs may have run: it stays, stopped
   * again, and its pages are received to the end.
   */
  async #startFailed(error: unknown): Promise<void> {
    this.#startFailure = this.recordHookError(error)
    try {
      await this.#machine.stop()
    } catch {
      // What runs on waits for pages as every guest does; `running` tells its owner.
    }
    this.#worker.post({ type: 'guest-running' })
  }

  #loadDevice(header: SectionHeader, body: Reader, bytes: Uint8Array, streamOffset: number): void {
    const { idstr, instanceId, version } = header
    const data = bytes.subarray(body.streamOffset - streamOffset)
    const taken = callHook(
      'loadDevice',
      () => this.#machine.loadDevice(idstr, instanceId, version, data),
      `${JSON.stringify(idstr)}, ${instanceId}, ${version}`,
    )
    body.bytes(checkTaken(taken, data.length, idstr))
  }

  #loadOpaque(sections: Uint8Array): void {
    callHook('loadOpaque', () => this.#machine.loadOpaque?.(sections))
  }

  #checkConfiguration(machineType: string, raw: Uint8Array): void {
    callHook('checkConfiguration', () => this.#machine.checkConfiguration?.(machineType, raw))
  }

  #pong(value: number): void {
    if (value === PingValue.packageLoaded) this.#claimGuest()
    this.#worker.post({ type: 'pong', value })
  }

  /** From here on the guest is ours to run, unless the worker has given it back before. */
  #claimGuest(): void {
    if (this.#claim.isTaken) return
    callHook('finishLoading', () => this.#machine.finishLoading?.())
    const threadIds = callHook('vcpuThreadIds', () => this.#machine.vcpuThreadIds())
    setVcpus(this.#faultLog, checkThreadIds(threadIds))
    if (!this.#claim.take()) {
      throw new StateError(
        'ERR_STATE_MIGRATION_LOST',
        'the migration failed while its devices were loaded: the guest stays with the source',
        this.state,
      )
    }
  }

  #run(): void {
    this.#claimGuest()
    callHook('resumeAfterLoad', () => this.#machine.resumeAfterLoad())
    this.#worker.post({ type: 'guest-running' })
  }

  #workerEntered(state: MigrationState, error: ErrorRecord | undefined): void {
    this.#enter(state, error)
    if (isFinal(state)) this.#uffd?.close()
  }

  #enter(state: MigrationState, error?: ErrorRecord): void {
    this.#recovering = false
    if (isFinal(state)) this.#disown()
    const isThere = state === 'postcopy-active' || state === 'completed'
    this.setState(state, error ?? (isThere ? this.#startFailure : undefined))
    if (state === 'postcopy-active') this.#autoRecovery.recovered()
    if (state !== 'postcopy-paused' || !this.capabilities['x-auto-recover']) return
    if (this.endedByOwner === undefined) this.#autoRecovery.paused(this.error)
  }

  /** It is ended when there is nothing for it to do. Otherwise something has happened to it. */
  #workerEnded(cause: unknown): void {
    if (isAtRest(this.state) && this.#recovering !== 'begun') return
    const error = errorToRecord(this.endedByOwner ?? workerLost('destination', cause))
    if (this.#claim.giveBack()) this.#enter('failed', error)
    else if (this.#claim.state === 'whole' || !this.#hasPackage) {
      // Nothing is missing after a plain precopy.
      this.#enter('completed')
    } else {
      this.#enter('postcopy-paused', error)
      return // while the userfaultfd is open, missing pages stay missing
    }
    releaseUserfaultfd(this.#uffd)
  }
}

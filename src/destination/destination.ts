/** The user's view of the destination: starts the worker, loads the devices and runs the guest. */
import { once } from 'node:events'
import { isMainThread } from 'node:worker_threads'
import { type ErrorRecord, PostcopyError, errorFromRecord, errorToRecord } from '../errors.js'
import type { Userfaultfd } from '../kernel/index.js'
import { bundledEntry, exitWithParkedThreads } from '../kernel/internal.js'
import {
  attachWhileOpen,
  checkMachine,
  checkOptionNames,
  checkOptionValues,
  closedByOwner,
  type GuestLocation,
  isAtRest,
  isBoolean,
  isFinal,
  isInMemory,
  type MachineBlock,
  type MigratableMachine,
  type MigrationOptions,
  type MigrationState,
  own,
  RecoverableEnd,
  refusePause,
  releaseUserfaultfd,
  resolveOptions,
  warnOfMemoryLimit,
  workerLost,
  WorkerThread,
} from '../migration/index.js'
import {
  formatUri,
  parseUri,
  removeStale,
  serverCredentials,
  type TlsCredentials,
} from '../net/index.js'
import { PageBitmap } from '../ram/index.js'
import { TARGET_PAGE_SIZE, assertNever } from '../units.js'
import { Claim, locationAtDestination } from './claim.js'
import { DeviceLoader } from './device-loader.js'
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
  /**
   * Handle faults of user code only, as an unprivileged user must. Default: what the kernel allows.
   */
  userModeOnly?: boolean
}

/** Of destinations closed while paused: threads stay parked on them until the process ends. */
const keptOpen = new Set<Userfaultfd>()

/** How each page of a block arrived, one bit per target page. */
export interface PageArrivals {
  readonly name: string
  readonly pageCount: number
  /** Received by precopy, and not discarded. */
  readonly precopied: PageBitmap
  /** Requested by a fault here. */
  readonly requested: PageBitmap
  readonly received: PageBitmap
}

/**
 * An incoming migration, begun by {@link Destination.listen}. The machine's RAM is emptied when the
 * source connects. Its huge pages are not freed: they are allocated before the destination listens,
 * at a few GiB per second, and overwritten page by page. The vCPUs are started after the machine's
 * state is loaded.
 *
 * If a migration fails before the guest is claimed here, the source keeps the guest. Later failures
 * lead to `postcopy-paused`: the guest continues, and threads that need a missing page stay parked.
 * {@link Destination.recover} continues the migration, any number of times.
 *
 * After the devices are loaded and until the migration is `completed`, the main thread must not
 * touch guest RAM that may be missing. It would wait for the page, and meanwhile get no events and
 * be unable to recover. If no worker can place the page, the process ends with status 1 and a
 * message on standard error. That is so if the connection breaks meanwhile, the worker ends, or the
 * migration is `postcopy-paused`, also after {@link Destination.close}.
 *
 * A machine whose `resumeAfterLoad` throws keeps its guest, because the source may not run it any
 * more. The machine is stopped, all pages are received, and {@link Migration.error} has the reason.
 * `done` rejects with it in the end. From then on the owner may call the machine's `start` at any
 * time.
 */
export class Destination extends RecoverableEnd<DestinationRequest, DestinationNotice> {
  readonly #machine: MigratableMachine
  readonly #options: DestinationOptions
  readonly #blocks: readonly SharedBlock[]
  readonly #faultLog = createFaultLog()
  readonly #claim = new Claim()
  readonly #devices: DeviceLoader
  #announced: Announced | undefined
  #uffd: Userfaultfd | undefined
  #userModeOnly: boolean
  #hasPackage = false

  /**
   * Resolves when a source may connect.
   *
   * @throws ConnectionError if it cannot listen; KernelError `ENOMEM` if there are too few huge
   *   pages; PostcopyError for invalid arguments, as `Source.migrate`, before anything begins
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
    checkOptionNames(options, ['uri', 'capabilities', 'parameters', 'userModeOnly'])
    checkOptionValues(options, { userModeOnly: isBoolean })
    checkMachine(machine)
    const blocks = blocksInMemory(machine)
    warnOfMemoryLimit(machine)
    super({ uri: options.uri, ...resolveOptions(options) })
    this.#machine = machine
    this.#options = options
    this.#userModeOnly = options.userModeOnly ?? false
    this.#blocks = blocks.map(({ name, region, lengthBytes, pageSizeBytes }) => {
      const bitmap = (): Uint8Array => new PageBitmap(lengthBytes / TARGET_PAGE_SIZE).bytes
      const bitmaps = {
        received: bitmap(),
        zeroed: bitmap(),
        requested: bitmap(),
        precopied: bitmap(),
      }
      return { name, regionId: region.id, lengthBytes, pageSizeBytes, ...bitmaps }
    })
    this.#devices = new DeviceLoader(machine, this.#claim, {
      post: (request) => this.post(request),
      state: () => this.state,
      isEnded: () => this.endedByOwner !== undefined,
      setVcpus: (threadIds) => setVcpus(this.#faultLog, threadIds),
      record: (error) => this.recordHookError(error),
    })
    parseUri(options.uri)
    const tls = serverCredentials(this.parameters)
    const disown = own(machine, this, 'destination')
    this.begin(() => this.#startWorker(options.uri, tls, undefined), disown)
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
      parameters: this.parameters,
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
    return this.currentUri ?? this.#options.uri
  }

  /** Whether the guest is `here`, running or stopped by its owner; otherwise the source owns it. */
  get guestLocation(): Exclude<GuestLocation, 'unknown'> {
    return locationAtDestination(this.#claim.state)
  }

  /** Whether faults from inside the kernel fail with EFAULT instead of waiting for their page. */
  get userModeOnly(): boolean {
    return this.#userModeOnly
  }

  /** Live: how long faults took; undefined before postcopy has begun. */
  get faults(): FaultReport | undefined {
    return this.#hasPackage ? reportFaults(this.#faultLog) : undefined
  }

  /** Live: how each page arrived. */
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
   * Closes the connection: both ends become `postcopy-paused`. The guest continues, except for
   * threads that need a missing page. Aborts a recovery in progress.
   *
   * @throws StateError `ERR_STATE_PAUSE` outside `postcopy-active` and recovery
   */
  pause(): void {
    refusePause(this.state)
    this.post({ type: 'pause' })
  }

  /**
   * Listens for the source again. Resolves when it may connect; a later failure leads back to
   * `postcopy-paused`.
   *
   * @param uri - default: where it listened last
   * @returns where it listens, with the port that the kernel picked
   * @throws StateError `ERR_STATE_RECOVER` outside `postcopy-paused`; ConnectionError if it cannot
   *   listen; PostcopyError `ERR_INVALID_URI`, `ERR_TLS_CREDENTIALS`, `ERR_CLOSED`
   */
  override async recover(uri: string = this.uri): Promise<string> {
    this.checkRecover()
    parseUri(uri)
    const tls = serverCredentials(this.parameters)
    const announced = this.#announced
    const uffd = this.#uffd
    if (announced === undefined || uffd === undefined) {
      throw new PostcopyError('ERR_INTERNAL', 'paused before the source announced its RAM blocks')
    }
    let listening: Promise<void> | undefined
    await this.restart(() => {
      listening = this.#listening()
      return this.#startWorker(uri, tls, { announced, userfaultfdId: uffd.id })
    })
    await listening
    return this.uri
  }

  /** Resolves when the source may connect; rejects with the reason if the recovery fails first. */
  #listening(): Promise<void> {
    return new Promise((resolve, reject) => {
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
  }

  /**
   * Ends the worker and stops listening. If postcopy is not complete, threads that need a missing
   * page stay parked forever. Their memory is lost with this process, which may need
   * {@link abandon} to end. Events are sent until this resolves; a pending `done` rejects with
   * `ERR_CLOSED`. May be called twice.
   */
  async close(): Promise<void> {
    this.endByOwner(closedByOwner())
    this.stopAutoRecovery()
    // A finished worker ends by itself, after the source has read its last message.
    if (isFinal(this.state)) await this.worker?.ended
    else await this.worker?.terminate()
    const uri = parseUri(this.uri)
    // A terminated worker does not remove its socket file.
    if (uri.type === 'unix') await removeStale(uri.path)
    if (this.state === 'postcopy-paused' && this.#uffd !== undefined) keptOpen.add(this.#uffd)
    this.settleByOwner()
  }

  /**
   * Gives up a guest that is here and misses pages. Closes as {@link close} does. After that,
   * `process.exit()` ends the process even if workers of the program are parked on missing pages;
   * otherwise it waits for them forever. No thread is woken, so none reads zeros: parked threads
   * end with the process. `exit` listeners that are added later are not called.
   *
   * If every page is here, or the guest is not, it only does what `close()` does. A destination in
   * a worker cannot end the process by `process.exit()`: use `exitProcess` of `postcopy/kernel`.
   */
  async abandon(): Promise<void> {
    await this.close()
    if (this.state === 'postcopy-paused') exitWithParkedThreads()
  }

  #notice(notice: DestinationNotice): void {
    switch (notice.type) {
      case 'listening':
        this.setUri(formatUri(notice.uri))
        this.emit('listening', this.uri)
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
        this.#devices.checkConfiguration(notice.machineType, notice.raw)
        break
      case 'package':
        this.#hasPackage = true
        this.#devices.loadPackage(notice.blob, notice.streamOffset)
        break
      case 'devices':
        this.#devices.loadDevices(notice.sections, notice.streamOffset)
        break
      case 'state':
        this.enter(notice.state, notice.error)
        if (isFinal(notice.state)) this.#uffd?.close()
        break
      default:
        assertNever(notice)
    }
  }

  protected override enter(state: MigrationState, error?: ErrorRecord): void {
    const isThere = state === 'postcopy-active' || state === 'completed'
    super.enter(state, error ?? (isThere ? this.#devices.startFailure : undefined))
  }

  /** A worker that ends before the migration is at rest has failed, or was closed by its owner. */
  #workerEnded(cause: unknown): void {
    if (!this.isWorkerLost) return
    const error = errorToRecord(this.endedByOwner ?? workerLost('destination', cause))
    if (this.#claim.giveBack()) this.enter('failed', error)
    else if (this.#claim.state === 'whole' || !this.#hasPackage) {
      // After a plain precopy no page is missing.
      this.enter('completed')
    } else {
      this.enter('postcopy-paused', error)
      return // while the userfaultfd is open, missing pages stay missing
    }
    releaseUserfaultfd(this.#uffd)
  }
}

/** @throws PostcopyError `ERR_INVALID_MACHINE` for a machine whose pages are in files */
function blocksInMemory({ blocks }: MigratableMachine): MachineBlock[] {
  const inMemory = blocks.filter(isInMemory)
  if (inMemory.length === blocks.length) return inMemory
  const text = 'its RAM is in files: it can be sent, but cannot receive a guest'
  throw new PostcopyError('ERR_INVALID_MACHINE', text)
}

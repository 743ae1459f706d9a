/**
 * The user's view of the source: starts the worker, and stops and starts the guest on its request.
 */
import { once } from 'node:events'
import {
  type ErrorRecord,
  type MachineError,
  PostcopyError,
  StateError,
  errorToRecord,
} from '../errors.js'
import {
  checkMachine,
  closedByOwner,
  createCounters,
  type GuestLocation,
  isAtRest,
  isFinal,
  isInMemory,
  type MigratableMachine,
  type MigrationState,
  now,
  own,
  type Parameters,
  refuseOwned,
  RecoverableEnd,
  refusePause,
  resolveOptions,
  workerLost,
  WorkerThread,
} from '../migration/index.js'
import { bundledEntry } from '../kernel/internal.js'
import { clientCredentials, parseUri, type TlsClient } from '../net/index.js'
import { PageBitmap, type RamBlockDescriptor } from '../ram/index.js'
import { encode, encodeConfiguration } from '../stream/index.js'
import { TARGET_PAGE_SIZE, assertNever } from '../units.js'
import type {
  SavedDevices,
  SharedSourceBlock,
  SourceNotice,
  SourceRequest,
  SourceWorkerData,
} from './protocol.js'
import { GuestControl } from './guest-control.js'
import { Handover, locationAtSource } from './handover.js'
import { encodeDevices } from './elements.js'
import { checkSourceOptions, type SourceOptions } from './options.js'
import { RAM_SECTION_ID } from './ram-sender.js'
import { explainPause, unconfirmed } from './unconfirmed.js'

/** What would be lost with the source of a postcopy. */
export interface Owed {
  readonly machineType: string
  /** The whole configuration element. */
  readonly configuration: Uint8Array
  readonly ramSectionId: number
  /** The FULL sections of all devices. */
  readonly devices: Uint8Array
  /** `owed`: one bit per target page. The pages do not change, because the guest is stopped. */
  readonly blocks: readonly (RamBlockDescriptor & { readonly owed: Uint8Array })[]
}

/**
 * An outgoing migration, begun by {@link Source.migrate}.
 *
 * Until the package is sent, every failure leaves the guest running here. After that, a broken
 * connection leads to `postcopy-paused`: the guest stays stopped, all its pages are kept, and
 * {@link Source.recover} continues the migration, any number of times.
 */
export class Source extends RecoverableEnd<SourceRequest, SourceNotice> {
  readonly #machine: MigratableMachine
  readonly #options: SourceOptions
  readonly #blocks: readonly SharedSourceBlock[]
  readonly #handover = new Handover()
  #devices: SavedDevices | undefined
  readonly #guest: GuestControl
  /** Removes the listener from the user's `AbortSignal`. */
  #ignoreSignal: () => void = () => undefined
  /** This source has no guest that could run, see {@link Source.takeOver}. */
  readonly #isTakenOver: boolean
  /** Set if the guest stays here, but did not start. */
  #startFailure: MachineError | undefined

  /**
   * Starts a migration at once.
   *
   * @throws PostcopyError `ERR_INVALID_URI`, `ERR_UNKNOWN_CAPABILITY`, `ERR_INVALID_PARAMETER`,
   *   `ERR_UNKNOWN_OPTION`, `ERR_INVALID_OPTION`, `ERR_INVALID_MACHINE`, `ERR_INVALID_BLOCK`,
   *   `ERR_TLS_CREDENTIALS`, …; MachineError for an async hook; StateError
   *   `ERR_STATE_MACHINE_OWNED` while another migration owns the machine
   */
  static migrate(machine: MigratableMachine, options: SourceOptions): Source {
    return new Source(machine, options, false)
  }

  /**
   * Replaces a source that was lost after the switch: asks the paused destination which pages it
   * misses, and sends them from `machine`. The RAM of `machine` must be that of the guest when it
   * was stopped.
   *
   * @throws PostcopyError as {@link Source.migrate}
   */
  static takeOver(machine: MigratableMachine, options: SourceOptions): Source {
    return new Source(machine, options, true)
  }

  private constructor(machine: MigratableMachine, options: SourceOptions, isRecovery: boolean) {
    checkSourceOptions(options)
    checkMachine(machine)
    const { capabilities, parameters } = resolveOptions(options)
    if (options.postcopyAtOnce === true && !capabilities['postcopy-ram']) {
      throw new PostcopyError('ERR_INVALID_CAPABILITY', 'postcopyAtOnce needs postcopy-ram')
    }
    const tls = clientCredentials(parameters, parseUri(options.uri))
    if (options.pageOrder?.fits(machine.blocks) === false) {
      throw new PostcopyError(
        'ERR_INVALID_BLOCK',
        'the RAM blocks of pageOrder are not those of the machine',
      )
    }
    super({
      uri: options.uri,
      // Only an answer shows that the destination has accepted our certificate.
      capabilities: tls === undefined ? capabilities : { ...capabilities, 'return-path': true },
      parameters,
    })
    this.#machine = machine
    this.#options = options
    this.#isTakenOver = isRecovery
    this.#blocks = machine.blocks.map(shareBlock)
    if (isRecovery) {
      this.#handover.handOver('postcopy')
      createCounters(this.counters.buffer).startedAt = now()
    }
    this.#guest = new GuestControl(machine, {
      changed: (error) => this.#guestChanged(error),
      saved: (devices) => {
        this.#devices = devices
        this.#request({ type: 'guest-stopped', devices })
      },
      failed: (error) =>
        this.#request({ type: 'guest-not-stopped', error: this.recordHookError(error) }),
      startedMeanwhile: () => startedMeanwhile(this.state),
    })
    const disown = own(machine, this, 'source')
    this.begin(() => this.#startWorker(options.uri, isRecovery, tls), disown)
    const cancel = (): void => this.#request({ type: 'cancel' })
    const { signal } = options
    signal?.addEventListener('abort', cancel, { once: true })
    this.#ignoreSignal = () => signal?.removeEventListener('abort', cancel)
    if (signal?.aborted === true) cancel()
  }

  #startWorker(
    uri: string,
    isRecovery: boolean,
    tls: TlsClient | undefined,
  ): WorkerThread<SourceRequest, SourceNotice> {
    const workerData: SourceWorkerData = {
      uri: parseUri(uri),
      tls,
      machineType: this.#machine.machineType,
      configuration: this.#machine.configuration,
      earlySections: this.#machine.earlySections,
      ramSectionId: this.#machine.ramSectionId,
      blocks: this.#blocks,
      loadRanges: this.#machine.loadRanges ?? [],
      capabilities: this.capabilities,
      parameters: this.parameters,
      dirtyLog: this.#options.dirtyLog ?? 'auto',
      postcopyAtOnce: this.#options.postcopyAtOnce ?? false,
      pageOrder: this.#options.pageOrder?.buffer,
      isRecovery,
      counters: this.counters.buffer,
      handover: this.#handover.buffer,
    }
    return new WorkerThread(bundledEntry('source/worker'), 'source', workerData, {
      notice: (notice) => this.#notice(notice),
      ended: (cause) => this.#workerEnded(cause),
    })
  }

  /**
   * Switches to postcopy as soon as possible, however much remains. Does nothing after the end.
   *
   * @throws StateError `ERR_STATE_POSTCOPY_OFF` without the capability `postcopy-ram`
   */
  startPostcopy(): void {
    if (!this.capabilities['postcopy-ram']) {
      throw new StateError(
        'ERR_STATE_POSTCOPY_OFF',
        'postcopy is not enabled: set the capability postcopy-ram on both ends before the start',
        this.state,
      )
    }
    this.#request({ type: 'start-postcopy' })
  }

  /**
   * Cancels the migration. The guest stays here, and continues if it was running.
   *
   * @throws StateError `ERR_STATE_CANCEL` once the destination may run the guest
   */
  cancel(): void {
    if (this.#handover.state !== 'none' && !isFinal(this.state)) {
      throw new StateError(
        'ERR_STATE_CANCEL',
        'the destination may have the guest already: the migration cannot be cancelled any more',
        this.state,
      )
    }
    this.#request({ type: 'cancel' })
  }

  /**
   * Closes the connection: both ends become `postcopy-paused`, and this end keeps every page.
   * Aborts a recovery in progress.
   *
   * @throws StateError `ERR_STATE_PAUSE` outside `postcopy-active` and recovery
   */
  pause(): void {
    refusePause(this.state)
    this.#request({ type: 'pause' })
  }

  /**
   * Connects again, and sends what the destination has not received. Resolves in
   * `postcopy-recover-setup`; later states show the progress. A failure leads back to
   * `postcopy-paused`.
   *
   * @param uri - where the destination listens now; default: the last one
   * @throws StateError `ERR_STATE_RECOVER` outside `postcopy-paused`; PostcopyError
   *   `ERR_INVALID_URI`, `ERR_TLS_CREDENTIALS`, `ERR_TLS_HOSTNAME`, `ERR_CLOSED`, `ERR_TAKEN_BACK`
   */
  override async recover(uri: string = this.currentUri ?? this.#options.uri): Promise<void> {
    this.checkRecover()
    const tls = clientCredentials(this.parameters, parseUri(uri))
    this.setUri(uri)
    let begun: Promise<unknown> | undefined
    await this.restart(() => {
      begun = once(this, 'state')
      return this.#startWorker(uri, true, tls)
    })
    await Promise.race([begun, this.worker?.ended])
    this.refuseEnded()
  }

  /**
   * All that a postcopy owes its destination; undefined before postcopy has handed the guest over.
   */
  get owed(): Owed | undefined {
    const devices = this.#devices
    const { state } = this.#handover
    if (devices === undefined || (state !== 'postcopy' && state !== 'claimed')) return
    const { machineType, configuration, ramSectionId = RAM_SECTION_ID } = this.#machine
    return {
      machineType,
      configuration: configuration ?? encode((out) => encodeConfiguration(out, machineType)),
      ramSectionId,
      devices: encodeDevices(devices, ramSectionId),
      blocks: this.#blocks,
    }
  }

  /**
   * Where the guest is. `elsewhere`: the destination has confirmed that it has it. `unknown`: it
   * was sent, but not confirmed. In both cases this end never starts the guest by itself.
   */
  get guestLocation(): GuestLocation {
    const { 'postcopy-ram': mayPostcopy, 'return-path': hasReturnPath } = this.capabilities
    return locationAtSource(this.#handover.state, mayPostcopy || hasReturnPath)
  }

  /** Changes parameters during the migration. Those of connections apply to the next connection. */
  override setParameters(parameters: Partial<Parameters>): void {
    super.setParameters(parameters)
    this.#request({ type: 'set-parameters', parameters: this.parameters })
  }

  /**
   * Gives up a migration after the switch. Nothing more is sent. The guest may be started here; its
   * RAM is as it was when it was stopped. Call this only if you know that the guest does not run at
   * the destination, and never will. A pending `done` rejects with `ERR_TAKEN_BACK`.
   *
   * @throws StateError `ERR_STATE_TAKE_BACK` outside `postcopy-paused` and `completed`
   */
  takeBack(): void {
    const hasLeft = this.state === 'postcopy-paused' || this.state === 'completed'
    if (!hasLeft || this.isRecovering || this.#isTakenOver) {
      throw new StateError(
        'ERR_STATE_TAKE_BACK',
        'only a guest of a migration that is postcopy-paused or completed can be taken back',
        this.state,
      )
    }
    // A closed migration does not own the machine any more.
    if (this.endedByOwner !== undefined) refuseOwned(this.#machine)
    this.disown()
    this.stopAutoRecovery()
    this.endByOwner(takenBack())
    this.#handover.takeBack()
    this.settleByOwner()
  }

  /**
   * Ends the worker. After `postcopy-paused` this gives up the kept pages. Events are sent until it
   * resolves; a pending `done` rejects with `ERR_CLOSED`. May be called twice.
   */
  async close(): Promise<void> {
    this.endByOwner(closedByOwner())
    this.stopAutoRecovery()
    this.#ignoreSignal()
    await this.worker?.terminate()
    this.disown()
    this.settleByOwner()
  }

  #request(request: SourceRequest): void {
    if (!isAtRest(this.state)) this.post(request)
  }

  #notice(notice: SourceNotice): void {
    switch (notice.type) {
      case 'state':
        if (isAtRest(notice.state)) void this.worker?.terminate()
        this.enter(notice.state, notice.error)
        break
      case 'pass':
        this.emit('dirty-sync', notice.pass)
        break
      case 'stop-guest':
        void this.#guest.stop()
        break
      case 'resume-guest':
        this.#guest.resume()
        break
      default:
        assertNever(notice)
    }
  }

  #guestChanged(error: MachineError | undefined): void {
    if (error !== undefined) {
      if (isFinal(this.state)) this.failedToStart(error)
      else this.#startFailure = error
    }
    this.emit('guest', error)
  }

  /**
   * After `completed` the guest has left: only its owner knows when the machine may be used again.
   */
  protected override readonly keepsMachineIn: MigrationState = 'completed'

  protected override enter(state: MigrationState, error?: ErrorRecord): void {
    super.enter(state, error === undefined ? undefined : this.#explain(state, error))
    if (isAtRest(state)) this.#ignoreSignal()
  }

  #explain(state: MigrationState, error: ErrorRecord): ErrorRecord {
    return state === 'postcopy-paused'
      ? explainPause(error, {
          location: this.guestLocation,
          isAllSent: this.#blocks.every(({ dirty }) => dirty.every((byte) => byte === 0)),
          isTakenOver: this.#isTakenOver,
        })
      : this.#withStartFailure(error)
  }

  #withStartFailure(error: ErrorRecord): ErrorRecord {
    const failure = this.#startFailure
    if (failure === undefined) return error
    failure.message += `; the guest stays stopped here; the migration had ended: ${error.message}`
    return this.recordHookError(failure)
  }

  /** A worker that ends before the migration is at rest has failed, or was closed by its owner. */
  #workerEnded(cause: unknown): void {
    if (!this.isWorkerLost) return
    const reason = this.endedByOwner ?? workerLost('source', cause)
    const error = errorToRecord(reason)
    switch (this.#handover.state) {
      case 'confirmed':
        if (this.state === 'postcopy-device') this.enter('postcopy-active')
        this.enter('completed')
        break
      case 'postcopy':
      case 'claimed':
        if (this.state === 'device') this.enter('postcopy-device')
        this.enter('postcopy-paused', error)
        break
      case 'precopy':
        this.enter('failed', errorToRecord(unconfirmed(reason)))
        break
      case 'none':
        this.#guest.resume()
        this.enter('failed', error)
    }
  }
}

function shareBlock(block: MigratableMachine['blocks'][number]): SharedSourceBlock {
  const { name, lengthBytes, pageSizeBytes } = block
  const bitmap = (): PageBitmap => new PageBitmap(lengthBytes / TARGET_PAGE_SIZE)
  const all = (): PageBitmap => {
    const pages = bitmap()
    pages.setAll()
    return pages
  }
  return {
    name,
    lengthBytes,
    pageSizeBytes,
    dirty: bitmap().bytes,
    owed: bitmap().bytes,
    confirmed: bitmap().bytes,
    leftOut: bitmap().bytes,
    ...(isInMemory(block)
      ? { regionId: block.region.id, data: all().bytes, available: undefined }
      : {
          pageFileId: block.pages.id,
          data: block.data.bytes,
          available: block.available?.bytes,
        }),
  }
}

function takenBack(): PostcopyError {
  const text = 'the guest was taken back from this migration, which has ended: start a new one'
  return new PostcopyError('ERR_TAKEN_BACK', text)
}

function startedMeanwhile(state: MigrationState): StateError {
  return new StateError(
    'ERR_STATE_GUEST',
    'the guest was started again while the migration stopped it: it stays here',
    state,
  )
}

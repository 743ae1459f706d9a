/**
 * What a user can do with a guest process, as typed functions. HMP (hmp.ts) and QMP (qmp/) are two
 * interfaces to it.
 */
import { EventEmitter } from 'node:events'
import { isDeepStrictEqual } from 'node:util'
import type { Destination } from '../destination/index.js'
import { PostcopyError, StateError } from '../errors.js'
import type { VcpuStats, VerifyReport } from '../guest/index.js'
import {
  type Capabilities,
  checkCapabilities,
  checkParameters,
  defaultCapabilities,
  defaultParameters,
  isInPostcopy,
  type MigrationState,
  type Parameters,
  type ParameterValue,
  refusePause,
  refuseRecover,
} from '../migration/index.js'
import { parseUri, serverCredentials } from '../net/index.js'
import type { SpillEnd } from '../park/index.js'
import type { Source } from '../source/index.js'
import { Incoming } from './incoming.js'
import type { MonitoredMachine } from './monitored-machine.js'
import { Outgoing } from './outgoing.js'
import { type BlockArrivals, mapArrivals } from './page-arrivals.js'
import { type MigrationInfo, destinationInfo, sourceInfo } from './query-migrate.js'
import {
  type StatusInfo,
  type GuestPresence,
  refuseToLeave,
  refuseToRun,
  refuseWhileMigrating,
  statusOf,
  presenceOf,
} from './guest-presence.js'

export interface MonitorEvents {
  /** One end of a migration has changed its state. `error`: the reason, if that is a failure. */
  migration: [
    state: MigrationState,
    error: PostcopyError | undefined,
    role: 'source' | 'destination',
  ]
  /** Where a source may connect, with the port that the kernel picked. */
  listening: [uri: string]
  /** A peer of an incoming migration was rejected; see `MigrationEvents`. */
  refused: [error: PostcopyError]
  /** The event of `MigrationEvents`, of an outgoing migration. */
  'dirty-sync': [count: number]
  /** What the outgoing postcopy owes is on disk, or could not be written. */
  spilled: [end: SpillEnd]
  /** The guest runs, or has stopped. */
  running: [running: boolean]
  quit: [reason: QuitReason]
}

/** Why a process ends: a command, a signal, or its work is done. */
export type QuitReason = 'command' | 'signal' | 'done'

export interface MonitorOptions {
  /** The guest arrives by a migration; see {@link Monitor.migrateIncoming}. */
  incoming?: boolean
  /** As in `DestinationOptions`. */
  userModeOnly?: boolean
  /** Where outgoing postcopies write what they owe: DIR, see `Spill`. */
  spill?: string
  /** As in `TrustOptions`, for `spill`. */
  allowForeignDirectory?: boolean
}

/** Controls one machine, with at most one outgoing and one incoming migration at a time. */
export class Monitor extends EventEmitter<MonitorEvents> {
  readonly machine: MonitoredMachine
  readonly #options: MonitorOptions
  readonly #capabilities: Capabilities = { ...defaultCapabilities }
  readonly #parameters: Parameters = { ...defaultParameters }
  readonly #outgoing: Outgoing
  readonly #incoming: Incoming
  #wasRunning: boolean
  #closed = false

  constructor(machine: MonitoredMachine, options: MonitorOptions = {}) {
    super()
    this.machine = machine
    this.#options = options
    this.#wasRunning = machine.running
    this.#outgoing = new Outgoing(machine, {
      started: (source) => this.#follow(source),
      spilled: (end) => this.emit('spilled', end),
    })
    this.#incoming = new Incoming(machine, {
      options: () => ({
        capabilities: this.#capabilities,
        parameters: this.#parameters,
        ...(options.userModeOnly === undefined ? {} : { userModeOnly: options.userModeOnly }),
      }),
      listening: (destination) => this.#awaitSource(destination),
    })
  }

  get presence(): GuestPresence {
    return presenceOf(this.source, this.destination, this.#options.incoming === true)
  }

  get source(): Source | undefined {
    return this.#outgoing.source
  }

  get destination(): Destination | undefined {
    return this.#incoming.destination
  }

  /**
   * The result of the last migration's spill; undefined before it is known, and without a spill.
   */
  get spillEnd(): SpillEnd | undefined {
    return this.#outgoing.spillEnd
  }

  // --- capabilities and parameters

  queryCapabilities(): Readonly<Capabilities> {
    return this.#capabilities
  }

  queryParameters(): Readonly<Parameters> {
    return this.#parameters
  }

  /**
   * Applies to the next migration, and to an incoming one before a source has connected.
   *
   * @throws PostcopyError `ERR_UNKNOWN_CAPABILITY`; StateError during a migration
   */
  async setCapability(name: string, on: boolean): Promise<void> {
    await this.setCapabilities({ [name]: on })
  }

  /** As {@link setCapability}, for several: sets all of them, or none. */
  async setCapabilities(wanted: Readonly<Record<string, boolean>>): Promise<void> {
    const known = checkCapabilities(wanted)
    const names = Object.keys(known).join(', ')
    refuseWhileMigrating(`set the capability ${names}`, this.source, this.destination)
    const before = { ...this.#capabilities }
    Object.assign(this.#capabilities, known)
    if (!isDeepStrictEqual(before, this.#capabilities)) await this.#incoming.refresh()
  }

  /**
   * Applies at once, also to a running migration. Parameters of connections apply to the next
   * connection, and to an incoming migration before a source has connected.
   *
   * @param value - bytes, bytes per second, milliseconds or a text, see `Parameters`
   * @throws PostcopyError `ERR_UNKNOWN_PARAMETER`, `ERR_INVALID_PARAMETER`, `ERR_TLS_CREDENTIALS`
   */
  async setParameter(name: string, value: ParameterValue): Promise<void> {
    await this.setParameters({ [name]: value })
  }

  /** As {@link setParameter}, for several: sets all of them, or none. */
  async setParameters(wanted: Readonly<Record<string, ParameterValue>>): Promise<void> {
    const checked = checkParameters(wanted)
    const before = this.#parameters['tls-creds']
    // A waiting destination will be created again: check the credentials before it is closed.
    if (this.presence === 'awaited') serverCredentials({ ...this.#parameters, ...checked })
    Object.assign(this.#parameters, checked)
    this.#outgoing.setParameters(checked)
    this.destination?.setParameters(checked)
    if (before !== this.#parameters['tls-creds']) await this.#incoming.refresh()
  }

  // --- migration

  /**
   * Starts a migration and returns at once.
   *
   * @throws PostcopyError `ERR_INVALID_URI`; StateError if the guest is not here
   */
  migrate(uri: string): void {
    refuseToLeave(this.presence, this.source)
    const { spill, allowForeignDirectory = false } = this.#options
    this.#outgoing.migrate({
      uri,
      capabilities: this.#capabilities,
      parameters: this.#parameters,
      spill,
      allowForeignDirectory,
    })
  }

  #follow(source: Source): void {
    source.on('state', (state, error) => this.#migrationChanged(state, error, 'source'))
    source.on('dirty-sync', (count) => this.emit('dirty-sync', count))
    source.on('guest', () => this.#noteRunning())
  }

  /** Resolves when the outgoing migration is over, or paused until a command. */
  outgoingEnd(): Promise<void> {
    return this.#outgoing.end()
  }

  /**
   * Listens for the guest's source. May be called again after an incoming migration has failed.
   *
   * @returns where it listens, with the port that the kernel picked
   * @throws ConnectionError if it cannot listen; StateError if no guest is awaited
   */
  async migrateIncoming(uri: string): Promise<string> {
    parseUri(uri)
    if (this.#options.incoming !== true) {
      throw new StateError(
        'ERR_STATE_NOT_INCOMING',
        'this process runs a guest: start the destination with --incoming',
        this.queryStatus().status,
      )
    }
    return this.#incoming.listen(uri)
  }

  #awaitSource(destination: Destination): void {
    destination.on('state', (state, error) => this.#migrationChanged(state, error, 'destination'))
    destination.on('refused', (error) => this.emit('refused', error))
    this.#migrationChanged(destination.state, undefined, 'destination')
    this.emit('listening', destination.uri)
  }

  /**
   * Switches the outgoing migration to postcopy. Does nothing when that is over.
   *
   * @throws StateError if the capability `postcopy-ram` is off, or no migration was started
   */
  startPostcopy(): void {
    this.#outgoing.startPostcopy(this.#capabilities['postcopy-ram'])
  }

  /**
   * Cancels the outgoing migration; the guest continues here. Does nothing if none is running.
   *
   * @throws StateError once the destination may run the guest
   */
  cancel(): void {
    this.source?.cancel()
  }

  /**
   * Closes the connection of a migration in postcopy, at either end: both ends become
   * `postcopy-paused`. Aborts a recovery in progress.
   *
   * @throws StateError if no migration is `postcopy-active` or recovering
   */
  pause(): void {
    const { source, destination } = this
    const inPostcopy = [source, destination].find(
      (end) => end !== undefined && isInPostcopy(end.state),
    )
    if (inPostcopy === undefined) refusePause(source?.state ?? destination?.state ?? 'none')
    inPostcopy?.pause()
  }

  /**
   * Continues an outgoing migration that is `postcopy-paused`. Resolves when the recovery has
   * begun.
   *
   * @param uri - where its destination listens now
   * @throws StateError if there is none; PostcopyError `ERR_INVALID_URI`
   */
  async resumeMigration(uri: string): Promise<void> {
    await this.#outgoing.recover(uri)
  }

  /**
   * Listens for the source of an incoming migration that is `postcopy-paused`.
   *
   * @returns where it listens, with the port that the kernel picked
   * @throws StateError if there is none; ConnectionError if it cannot listen
   */
  async migrateRecover(uri: string): Promise<string> {
    const { destination } = this
    if (destination === undefined) refuseRecover('none')
    const bound = (await destination?.recover(uri)) ?? uri
    this.emit('listening', bound)
    return bound
  }

  queryMigrate(): MigrationInfo {
    const { source, destination } = this
    return {
      ...(destination === undefined ? {} : destinationInfo(destination)),
      ...(source === undefined ? {} : sourceInfo(source, this.machine.blocks)),
    }
  }

  /**
   * How each page arrived here; empty without an incoming migration.
   *
   * @param cells - cells of the map of one block; 0 for totals only
   */
  queryPageArrivals(cells: number): BlockArrivals[] {
    const { destination } = this
    return destination === undefined ? [] : mapArrivals(destination, cells)
  }

  // --- the guest

  queryStatus(): StatusInfo {
    const completed = this.source?.state === 'completed'
    return statusOf(this.presence, this.machine.running, completed)
  }

  /** @throws PostcopyError `ERR_MONITOR_UNSUPPORTED` where the machine does not count that */
  queryCpus(): VcpuStats[] {
    if (this.machine.vcpuStats === undefined) throw unsupported('has no statistics of its vCPUs')
    return this.machine.vcpuStats()
  }

  /** @throws StateError if the guest is not here; does nothing if it is stopped */
  async stop(): Promise<void> {
    if (this.presence === 'awaited' || this.presence === 'leaving') {
      refuseToRun('stop', this.presence, this.source)
    }
    await this.machine.stop()
    this.#noteRunning()
  }

  /**
   * @param options - `force` takes back a guest that has left by a migration that is complete, or
   *   paused. Use it only if you know that the guest does not run there, and never will.
   * @throws StateError if the guest is not here
   */
  cont(options: { force?: boolean } = {}): void {
    if (options.force === true && this.#outgoing.canTakeBack) {
      this.#outgoing.takeBack(() => this.machine.start())
    } else {
      refuseToRun('cont', this.presence, this.source)
      this.machine.start()
    }
    this.#noteRunning()
  }

  /**
   * Checks all guest RAM.
   *
   * @throws StateError while the guest runs, or before it has arrived; PostcopyError
   *   `ERR_MONITOR_UNSUPPORTED` where the machine cannot
   */
  verify(): Promise<VerifyReport> {
    if (this.machine.verify === undefined) throw unsupported('cannot check its RAM')
    return this.machine.verify()
  }

  // --- the process

  /**
   * Asks the owner of the process to end it.
   *
   * @param options - `reason` is passed on to listeners; default `command`
   * @throws StateError while a postcopy still needs pages that are here, or arriving here
   */
  quit(options: { force?: boolean; reason?: QuitReason } = {}): void {
    const owed = [this.source, this.destination].find(
      (migration) => migration !== undefined && isInPostcopy(migration.state),
    )
    if (owed !== undefined && options.force !== true) {
      throw new StateError(
        'ERR_STATE_PAGES_OWED',
        'the guest would lose pages that have not been received; quit -f ends the process anyway',
        owed.state,
      )
    }
    this.emit('quit', options.reason ?? 'command')
  }

  /** Ends all migrations; the guest stays with its owner. May be called twice. */
  async close(): Promise<void> {
    this.#closed = true
    await this.#outgoing.close()
    await this.#incoming.close()
  }

  #migrationChanged(
    state: MigrationState,
    error: PostcopyError | undefined,
    role: 'source' | 'destination',
  ): void {
    // State changes caused by the close are not events.
    if (this.#closed) return
    // In QEMU's order: a guest that has arrived completely runs first, then the migration
    // completes.
    if (state === 'completed') this.#noteRunning()
    this.emit('migration', state, error, role)
    this.#noteRunning()
  }

  #noteRunning(): void {
    const { running } = this.machine
    if (running === this.#wasRunning) return
    this.#wasRunning = running
    this.emit('running', running)
  }
}

function unsupported(what: string): PostcopyError {
  return new PostcopyError('ERR_MONITOR_UNSUPPORTED', `this machine ${what}`)
}

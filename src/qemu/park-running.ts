/** Parks a running QEMU: drives it by QMP, and receives its migration in this process. */
import { resolve } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { errorToRecord, PostcopyError } from '../errors.js'
import { isAtRest } from '../migration/index.js'
import { Park, type Manifest } from '../park/index.js'
import { sentence } from '../printable.js'
import { examineOrigin } from './examine-origin.js'
import { MigrationSettings } from './migration-settings.js'
import { writeOrigin } from './origin-file.js'
import {
  checkDisks,
  checkState,
  checkVersion,
  IDLE,
  launchOf,
  type ParkRunningOptions,
  wantedSettings,
  withReason,
} from './park-checks.js'
import type { LaunchRecord } from './qemu-process.js'
import { QmpClient } from './qmp-client.js'
import { takeOverlays, type PlannedOverlay } from './snapshot-disks.js'
import { PrivateFolder } from './private-folder.js'
import { VmMonitor, type MigrationStatus } from './vm-monitor.js'

const ENDED = ['completed', 'failed', 'cancelled', 'postcopy-paused']
/** QEMU completes a migration after the VM is on disk, because `return-path` is on. */
const LAST_BYTES_MS = 5000

export class RunningPark {
  /** Receives the migration. */
  readonly park: Park
  readonly #vm: VmMonitor
  readonly #settings: MigrationSettings
  readonly #overlays: readonly PlannedOverlay[]
  readonly #options: ParkRunningOptions
  readonly #folder: PrivateFolder
  readonly #start: { readonly runState: string; readonly directory: string }
  readonly #launch: LaunchRecord | undefined
  #areSnapshotsTaken = false
  #work: Promise<Manifest> | undefined

  /**
   * Checks and prepares everything. On an error, QEMU is as it was.
   *
   * @throws QmpError; PostcopyError `ERR_QEMU_STATE`, `ERR_QEMU_CAPABILITY`, `ERR_DISKS_SHARED`,
   *   `ERR_DISK_SNAPSHOT`; or as `Park.listen`
   */
  static async prepare(options: ParkRunningOptions): Promise<RunningPark> {
    const folder = PrivateFolder.create()
    let client: QmpClient | undefined
    try {
      client = await QmpClient.connect(options.qmp)
      return await RunningPark.#prepare(client, folder, options)
    } catch (error) {
      client?.close()
      folder.remove()
      throw error
    }
  }

  static async #prepare(
    client: QmpClient,
    folder: PrivateFolder,
    options: ParkRunningOptions,
  ): Promise<RunningPark> {
    const vm = new VmMonitor(client)
    checkVersion(client)
    const runState = await checkState(vm)
    const launch = launchOf(client, options)
    const directory = launch.record?.directory ?? process.cwd()
    const overlays = checkDisks(await vm.disks(), directory, options)
    const settings = await MigrationSettings.apply(client, wantedSettings(options, overlays))
    let park: Park | undefined
    try {
      const { directory: target, allowForeignDirectory = false } = options
      const uri = folder.uri('park')
      park = await Park.listen({ uri, directory: target, allowForeignDirectory })
      return new RunningPark(vm, settings, park, {
        ...{ options, overlays, folder, start: { runState, directory } },
        launch: options.recordLaunch === false ? undefined : launch.record,
      })
    } catch (error) {
      await settings.restore().catch(() => undefined)
      await park?.close()
      throw error
    }
  }

  private constructor(
    vm: VmMonitor,
    settings: MigrationSettings,
    park: Park,
    rest: {
      options: ParkRunningOptions
      overlays: readonly PlannedOverlay[]
      folder: PrivateFolder
      start: { runState: string; directory: string }
      launch: LaunchRecord | undefined
    },
  ) {
    this.park = park
    this.#vm = vm
    this.#settings = settings
    this.#options = rest.options
    this.#overlays = rest.overlays
    this.#folder = rest.folder
    this.#start = rest.start
    this.#launch = rest.launch
  }

  /**
   * Migrates, and resolves when the VM is on disk and QEMU has its settings back.
   *
   * @throws PostcopyError why it failed, and where the guest is
   */
  run(): Promise<Manifest> {
    return (this.#work ??= this.#migrate())
  }

  async #migrate(): Promise<Manifest> {
    const { client } = this.#vm
    const switching = new AbortController()
    try {
      await client.execute('migrate', { uri: this.park.uri })
      const timer = this.#switch(switching.signal)
      const [{ status, errorDesc }] = await Promise.all([this.#ended(), settled(this.park)])
      switching.abort()
      await timer
      const { manifest } = this.park
      if (status === 'completed' && manifest !== undefined) return await this.#completed(manifest)
      throw withReason(this.park.error, status, errorDesc)
    } catch (error) {
      switching.abort()
      throw await this.#explain(error)
    }
  }

  /** Gives up if the guest has not switched yet; otherwise waits for its pages. */
  cancel(): boolean {
    if (this.park.state.startsWith('postcopy-')) return false
    this.park.stop()
    return true
  }

  /** Ends QEMU. @throws QmpError */
  async quit(): Promise<void> {
    const { client } = this.#vm
    const closed = new Promise<void>((resolve) => client.once('close', resolve))
    await client.execute('quit')
    await closed
  }

  /** Undoes what is not finished. May be called twice. */
  async close(): Promise<void> {
    await this.park.close()
    // It waits until QEMU has noticed that, and then puts everything back.
    await this.#work?.catch(() => undefined)
    await this.#restore()
    this.#vm.client.close()
    this.#folder.remove()
  }

  /** Switches to postcopy when it is time. Never rejects: the migration then has its own error. */
  async #switch(signal: AbortSignal): Promise<void> {
    const { after = 'now', note } = this.#options
    if (after === 'never') return
    try {
      if (after !== 'now') await sleep(after, undefined, { signal })
      await this.#vm.client.execute('migrate-start-postcopy')
    } catch (error) {
      if (!signal.aborted) note?.(`cannot switch to postcopy: ${errorToRecord(error).message}`)
    }
  }

  /** The last status of QEMU's migration. Without a connection, the park would wait for ever. */
  async #ended(): Promise<MigrationStatus> {
    const end = await this.#reachesEnd()
    if (end.status === 'completed')
      await Promise.race([settled(this.park), sleep(LAST_BYTES_MS, undefined, { ref: false })])
    this.park.stop()
    return end
  }

  async #reachesEnd(): Promise<MigrationStatus> {
    const now = await this.#vm.reached([...ENDED, ...this.#pauses])
    if (now.status !== 'pre-switchover') return now
    // The guest is stopped, and its disks are still this QEMU's.
    try {
      await takeOverlays(this.#vm.client, this.#overlays)
      this.#areSnapshotsTaken = true
    } catch (error) {
      await this.#vm.client.execute('migrate_cancel')
      throw error
    }
    await this.#vm.client.execute('migrate-continue', { state: 'pre-switchover' })
    return await this.#vm.reached(ENDED)
  }

  get #incomplete(): string {
    return `${resolve(this.#options.directory)}.incomplete`
  }

  get #pauses(): readonly string[] {
    return this.#overlays.length > 0 ? ['pre-switchover'] : []
  }

  async #completed(manifest: Manifest): Promise<Manifest> {
    await this.#recordOrigin(this.#options.directory)
    await this.#restore()
    if (this.#options.keepRunning === true && this.#start.runState === 'running') {
      await this.#vm.client.execute('cont')
    }
    return manifest
  }

  async #recordOrigin(directory: string): Promise<void> {
    const { note, allowForeignDirectory = false } = this.#options
    try {
      const origin = await examineOrigin(this.#vm, {
        ...this.#start,
        overlays: this.#overlays,
        ...(this.#launch === undefined ? {} : { launch: this.#launch }),
        ...(note === undefined ? {} : { note }),
      })
      writeOrigin(directory, origin, { allowForeignDirectory })
    } catch (error) {
      note?.(
        `the VM is parked, but not how QEMU was started: ${errorToRecord(error).message}; resume --start needs the command after --`,
      )
    }
  }

  /** QEMU refuses to change capabilities while it has a migration. */
  async #restore(): Promise<void> {
    if (this.#vm.client.isClosed) return
    try {
      const { status } = await this.#vm.migration()
      if (IDLE.includes(status)) await this.#settings.restore()
    } catch (error) {
      const { note } = this.#options
      note?.(`QEMU's migration settings were not put back: ${errorToRecord(error).message}`)
    }
  }

  /** Adds where the guest is, as QEMU itself reports it. */
  async #explain(error: unknown): Promise<PostcopyError> {
    const { code, message } = errorToRecord(error)
    const where = await this.#whereabouts().catch(
      () => 'QEMU does not answer any more: whether its guest still runs is not known',
    )
    return new PostcopyError(code, `${sentence(message)} ${where}`, { cause: error })
  }

  async #whereabouts(): Promise<string> {
    const { client } = this.#vm
    this.park.stop()
    await settled(this.park)
    const { status } = await this.#vm.migration()
    if (status.startsWith('postcopy-')) {
      if (this.park.state === 'postcopy-paused') await this.#recordOrigin(this.#incomplete)
      return 'The guest is stopped in its QEMU, which still has the pages that are missing here: do not end it'
    }
    if (!IDLE.includes(status)) {
      await client.execute('migrate_cancel')
      await this.#vm.reached(IDLE)
    }
    await this.#restore()
    let runState = await this.#vm.runState()
    if (this.#start.runState === 'running' && runState !== 'running') {
      await client.execute('cont')
      runState = await this.#vm.runState()
    }
    const disks = this.#areSnapshotsTaken
      ? `; its disks now have the overlays ${this.#overlays.map(({ path }) => path).join(', ')}`
      : ''
    const guest =
      runState === 'running'
        ? 'The guest continues in its QEMU'
        : `The guest is in its QEMU (${runState})`
    return `${guest}${disks}`
  }
}

/** Resolves when the park is over, or has paused. */
async function settled(park: Park): Promise<void> {
  if (isAtRest(park.state)) return
  await new Promise<void>((resolve) => {
    park.on('state', (state) => {
      if (isAtRest(state)) resolve()
    })
    park.done.then(resolve, () => resolve())
  })
}

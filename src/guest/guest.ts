/**
 * A machine that can be migrated: RAM blocks `ram` and `ledger`, vCPUs on their own threads, a
 * queue and a block device. The content of its RAM can be verified, see native/common/content.h.
 */
import { PostcopyError, StateError } from '../errors.js'
import { checkOptions } from '../kernel/internal.js'
import {
  type DeviceState,
  type MachineBlock,
  type MigratableMachine,
  type RamRange,
  warnOfMemoryLimit,
} from '../migration/index.js'
import { populate } from '../ram/index.js'
import { printable } from '../printable.js'
import { Reader } from '../stream/index.js'
import { TARGET_PAGE_SIZE, formatByteSize, parseByteSize } from '../units.js'
import { BlockDevice } from './devices/block-device.js'
import type { Device } from './devices/device.js'
import { GlobalState, type SavedRunState } from './devices/global-state.js'
import { QueueDevice } from './devices/queue-device.js'
import { VcpuDevice } from './devices/vcpu-device.js'
import { VERDICTS, type Finding, type PageVerdict } from './findings.js'
import { allocate, type GuestMemory } from './guest-memory.js'
import { VcpuSet } from './vcpu-set.js'
import type { TouchHistogram, VcpuStats } from './vcpu-stats.js'
import { IDLE_WORKLOAD, parseWorkload, type Workload } from './workload.js'

export const MACHINE_TYPE = 'postcopy-guest-1'

const MAX_VCPUS = 256
const STOP_TIMEOUT_MS = 10_000
const CLOSE_TIMEOUT_MS = 1_000

export interface GuestOptions {
  /** Length of `ram`: bytes, or text such as `256M`. A multiple of the page size of `memory`. */
  readonly ram: number | string
  /**
   * The type of memory of `ram`; default `anon`. The ledger has the same, but `anon` for `hugetlb`.
   */
  readonly memory?: 'anon' | 'memfd' | 'hugetlb'
  /** 1 (default) to 256. */
  readonly vcpus?: number
  /** Default `idle`. Not for an incoming guest, which continues the workload of the stream. */
  readonly workload?: Workload | string
  /** RAM stays untouched and devices blank until a migration loads them; default false. */
  readonly incoming?: boolean
}

/** The result of a check of all guest RAM. */
export interface VerifyReport {
  /** True if there are no findings, in the scan or while the guest ran. */
  readonly verified: boolean
  /** Number of pages checked. */
  readonly pages: number
  readonly counts: Readonly<Record<PageVerdict, number>>
  /** The first findings: those of running vCPUs, then those of the scan. */
  readonly findings: readonly Finding[]
  /** Checks that failed while vCPUs ran, here or on an earlier host. */
  readonly failedChecks: number
  readonly durationMs: number
}

export class Guest implements MigratableMachine {
  readonly machineType = MACHINE_TYPE
  readonly blocks: readonly MachineBlock[]
  readonly loadRanges: readonly RamRange[]
  readonly vcpus: VcpuSet
  readonly #queue: QueueDevice
  readonly #block: BlockDevice
  readonly #globalState = new GlobalState()
  readonly #devices: readonly Device[]
  /** The devices whose state an incoming guest still needs, as `idstr/instance`. */
  readonly #blank = new Set<string>()
  #state: 'stopped' | 'running' | 'stopping' | 'closed' = 'stopped'
  #stopping: Promise<void> | undefined

  /**
   * Creates the machine; it does not run yet. Fills `ram` as the workload requires, on a separate
   * thread: 2 GiB take about a second.
   *
   * @throws PostcopyError `ERR_INVALID_MACHINE`, `ERR_INVALID_WORKLOAD`, `ERR_INVALID_SIZE`
   * @throws KernelError if there is not enough memory, or too few threads
   */
  static async create(options: GuestOptions): Promise<Guest> {
    checkOptions(options, ['ram', 'memory', 'vcpus', 'workload', 'incoming'])
    const { memory = 'anon', vcpus = 1, workload: given = IDLE_WORKLOAD, incoming } = options
    const workload = typeof given === 'string' ? parseWorkload(given) : given
    const ramBytes = typeof options.ram === 'string' ? parseByteSize(options.ram) : options.ram
    if (workload.hotBytes > ramBytes) {
      const [hot, ram] = [formatByteSize(workload.hotBytes), formatByteSize(ramBytes)]
      refuse(`the workload's hot=${hot} is more than the machine's RAM of ${ram}`)
    }
    if (!Number.isInteger(vcpus) || vcpus < 1 || vcpus > MAX_VCPUS) {
      refuse(`${vcpus} vCPUs: 1 to ${MAX_VCPUS} are possible`)
    }
    const guestMemory = allocate(memory, ramBytes, vcpus)
    let guest: Guest
    try {
      guest = new Guest(guestMemory, vcpus)
    } catch (error) {
      guestMemory.ram.close()
      guestMemory.ledger.close()
      throw error
    }
    warnOfMemoryLimit(guest)
    try {
      await guest.#begin(incoming === true, workload)
    } catch (error) {
      await guest.close()
      throw error
    }
    return guest
  }

  private constructor(memory: GuestMemory, vcpus: number) {
    const { ram, ledger, layout } = memory
    this.blocks = [
      { name: 'ram', region: ram, lengthBytes: layout.ramBytes },
      { name: 'ledger', region: ledger, lengthBytes: layout.ledgerBytes },
    ]
    const devicesAt = layout.vcpuPages * TARGET_PAGE_SIZE
    this.loadRanges = [
      { block: 'ram', offset: devicesAt, lengthBytes: layout.ramBytes - devicesAt },
    ]
    this.vcpus = new VcpuSet(ram, ledger, vcpus, layout.vcpuPages)
    this.#queue = new QueueDevice(ram, layout.queueOffset)
    this.#block = new BlockDevice(ram, layout.blockOffset)
    this.#devices = [
      ...Array.from({ length: vcpus }, (_, index) => new VcpuDevice(this.vcpus, index)),
      this.#queue,
      this.#block,
      this.#globalState,
    ]
  }

  async #begin(incoming: boolean, workload: Workload): Promise<void> {
    if (incoming) {
      for (const device of this.#devices) this.#blank.add(nameOf(device))
      return
    }
    const [ram] = this.blocks
    if (ram?.region.kind === 'hugetlb') await populate(ram.region, ram.lengthBytes)
    this.vcpus.adopt(workload)
    await this.vcpus.fill()
    this.#queue.initialise()
    this.#block.initialise()
  }

  /** True from {@link start} until {@link stop} has resolved. */
  get running(): boolean {
    return this.#state === 'running' || this.#state === 'stopping'
  }

  /** True while {@link verify} works, even after its caller has aborted it. */
  get checking(): boolean {
    return this.vcpus.scanning
  }

  /** The workload; for an incoming guest, `idle` until its vCPUs are loaded. */
  get workload(): Workload {
    return this.vcpus.workload
  }

  /**
   * Lets the vCPUs run. Also undoes a stop that has failed.
   *
   * @throws StateError before the guest has any state, while it is stopping or being checked
   */
  start(): void {
    this.#requireLoaded('start')
    if (this.#stopping !== undefined) this.#requireStopped('start')
    if (this.#state === 'running') return
    if (this.#state === 'stopped') for (const device of this.#devices) device.started?.()
    this.vcpus.start()
    this.#state = 'running'
  }

  /**
   * Stops the vCPUs, then the devices, which write their last results into guest RAM. The run state
   * in {@link saveDevices} is the one at the beginning of the latest stop.
   *
   * @param options - `timeoutMs` (default 10 000) for vCPUs that are parked on missing pages
   * @throws StateError `ERR_STATE_VCPU_PARKED` with their numbers; the stop stays requested
   */
  async stop(options: { timeoutMs?: number } = {}): Promise<void> {
    if (this.#state === 'closed') return
    if (this.#stopping === undefined) {
      this.#globalState.runState = this.running ? 'running' : 'paused'
      if (!this.running) return
      this.#state = 'stopping'
      this.#stopping = this.#stop(options.timeoutMs ?? STOP_TIMEOUT_MS)
    }
    await this.#stopping
  }

  async #stop(timeoutMs: number): Promise<void> {
    try {
      await this.vcpus.stop(timeoutMs)
      if (this.#state !== 'stopping') return // closed in the meantime
      for (const device of this.#devices) device.stopped?.()
      this.#state = 'stopped'
    } finally {
      this.#stopping = undefined
    }
  }

  /** @throws StateError while the guest runs, or before it has any state */
  saveDevices(): DeviceState[] {
    this.#requireLoaded('save')
    this.#requireStopped('save')
    return this.#devices.map((device) => {
      const { idstr, instanceId, version } = device
      return { idstr, instanceId, version, data: device.save() }
    })
  }

  /** @throws PostcopyError `ERR_DEVICE_STATE` for a device that this machine does not have */
  loadDevice(idstr: string, instanceId: number, version: number, data: Uint8Array): number {
    this.#requireStopped('load')
    const device = this.#devices.find(
      (known) => known.idstr === idstr && known.instanceId === instanceId,
    )
    if (device === undefined) {
      const names = this.#devices.map(nameOf).join(', ')
      throw deviceError(
        `unknown device ${nameOf({ idstr, instanceId })}: this machine has ${names}`,
      )
    }
    if (version !== device.version) {
      throw deviceError(`${nameOf(device)}: version ${version} instead of ${device.version}`)
    }
    if (!this.#blank.has(nameOf(device))) {
      throw deviceError(
        `${nameOf(device)}: it has a state already (sent twice, or the guest was not created as incoming)`,
      )
    }
    const reader = new Reader(data)
    device.load(reader)
    this.#blank.delete(nameOf(device))
    return reader.position
  }

  /** @throws PostcopyError `ERR_DEVICE_STATE` if a device has received no state */
  finishLoading(): void {
    if (this.#blank.size === 0) return
    throw deviceError(`the stream had no state for ${[...this.#blank].join(', ')}`)
  }

  /** Starts the guest if it ran when it was saved. */
  resumeAfterLoad(): void {
    this.finishLoading()
    if (this.loadedRunState === 'running') this.start()
  }

  /** Whether the guest ran when it was saved. */
  get loadedRunState(): SavedRunState {
    return this.#globalState.runState
  }

  vcpuThreadIds(): number[] {
    return this.vcpus.threadIds()
  }

  /** Counters of each vCPU; may be called at any time. */
  vcpuStats(): VcpuStats[] {
    return this.vcpus.stats()
  }

  /** Durations of the touches of each vCPU on this host; may be called at any time. */
  touchHistograms(): TouchHistogram[] {
    return this.vcpus.histograms()
  }

  /**
   * Checks every page of guest RAM on a separate thread, which may wait for missing pages.
   *
   * @param options - `signal` to abort, for pages that may never arrive
   * @throws StateError while the guest runs: stop it first
   */
  async verify(options: { signal?: AbortSignal } = {}): Promise<VerifyReport> {
    this.#requireLoaded('verify')
    this.#requireStopped('verify')
    const from = performance.now()
    const seals = this.#devices.flatMap((device) => device.seals?.() ?? [])
    const scan = await this.vcpus.verify(seals, options.signal)
    const failedChecks = this.vcpuStats().reduce((sum, { failedChecks: n }) => sum + n, 0)
    const [lost = 0, misplaced = 0, stale = 0, torn = 0, corrupt = 0] = scan.counts
    return {
      verified: failedChecks === 0 && VERDICTS.every((_, i) => scan.counts[i] === 0),
      pages: scan.pages,
      counts: { lost, misplaced, stale, torn, corrupt },
      findings: [...this.vcpus.findings(), ...scan.findings],
      failedChecks,
      durationMs: performance.now() - from,
    }
  }

  /**
   * Ends the vCPUs and frees the memory. May be called twice. If a vCPU is still parked after a
   * second, its memory stays until its page arrives or the process ends.
   */
  async close(): Promise<void> {
    if (this.#state === 'closed') return
    this.#state = 'closed'
    await this.vcpus.close(CLOSE_TIMEOUT_MS)
    this.#block.close()
    for (const { region } of this.blocks) region.close()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }

  #requireStopped(action: string): void {
    if (this.#state === 'stopped') return
    throw new StateError('ERR_STATE_GUEST', `cannot ${action}: stop the guest first`, this.#state)
  }

  #requireLoaded(action: string): void {
    if (this.#state === 'closed') {
      throw new StateError('ERR_STATE_GUEST', `cannot ${action}: the guest was closed`, 'closed')
    }
    if (this.#blank.size === 0) return
    throw new StateError(
      'ERR_STATE_GUEST',
      `cannot ${action}: no guest has been received yet`,
      'incoming',
    )
  }
}

function nameOf(device: { idstr: string; instanceId: number }): string {
  return `${printable(device.idstr)}/${device.instanceId}`
}

function deviceError(message: string): PostcopyError {
  return new PostcopyError('ERR_DEVICE_STATE', message)
}

function refuse(message: string): never {
  throw new PostcopyError('ERR_INVALID_MACHINE', message)
}

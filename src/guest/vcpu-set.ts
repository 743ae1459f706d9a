/** The vCPUs of a machine: native threads that never call into JavaScript. */
import { constants } from 'node:os'
import { PostcopyError, StateError } from '../errors.js'
import { check, closedError } from '../kernel/internal.js'
import type { MemoryRegion } from '../kernel/index.js'
import { TARGET_PAGE_SIZE } from '../units.js'
import type { Seal } from './devices/device.js'
import { decodeFindings, type Finding } from './findings.js'
import {
  ConfigureCall,
  SealedPage,
  addon,
  type MachineHandle,
  type NativeScanResult,
} from './native.js'
import { until } from './poll.js'
import { TouchHistogram, readVcpuStats, type VcpuStats } from './vcpu-stats.js'
import { IDLE_WORKLOAD, PATTERNS, formatWorkload, type Workload } from './workload.js'

/** How long {@link VcpuSet.stop} blocks before it returns to the event loop: a touch takes 1 us. */
const STOP_WAIT_US = 2000
const STOP_POLL_MS = 1
const SCAN_POLL_MS = 2

/** The result of a scan of all guest RAM. */
export interface ScanReport {
  readonly pages: number
  /** Number of findings of each verdict, in the order of `VERDICTS`. */
  readonly counts: readonly number[]
  /** The first findings. */
  readonly findings: readonly Finding[]
}

export class VcpuSet {
  readonly count: number
  /** Number of pages at the start of `ram` that belong to vCPUs. */
  readonly pageCount: number
  #handle: MachineHandle | undefined
  #workload: Workload | undefined

  /** @throws KernelError if threads cannot be started */
  constructor(ram: MemoryRegion, ledger: MemoryRegion, count: number, pageCount: number) {
    const machine = addon().machineCreate(ram.lease(), ledger.lease(), count, pageCount)
    if (typeof machine === 'number') {
      check(machine, 'pthread_create', () => `${count} vCPUs`)
      throw new PostcopyError(
        'ERR_INTERNAL',
        'the machine was not created, and no error was reported',
      )
    }
    this.#handle = machine
    this.count = count
    this.pageCount = pageCount
  }

  get workload(): Workload {
    return this.#workload ?? IDLE_WORKLOAD
  }

  /** Takes the workload of the stream; false if it differs from that of an earlier vCPU. */
  adopt(workload: Workload): boolean {
    if (this.#workload !== undefined) {
      return formatWorkload(workload) === formatWorkload(this.#workload)
    }
    const { pattern, writesPercent, fillPercent, hotBytes, touches, rate, seed } = workload
    const call = new ConfigureCall()
    call.pattern = PATTERNS.indexOf(pattern)
    call.writesPercent = writesPercent
    call.fillPercent = fillPercent
    call.hotPages = Math.floor(hotBytes / TARGET_PAGE_SIZE)
    call.touches = touches
    call.rate = rate
    call.seed = seed
    const result = addon().machineConfigure(this.#machine, call.numbers)
    this.#check(result)
    this.#workload = workload
    return true
  }

  start(): void {
    this.#check(addon().machineStart(this.#machine))
  }

  /**
   * Resolves when no vCPU touches guest RAM; at a source that takes microseconds. A vCPU that is
   * parked on a missing page can leave only after that page has arrived.
   *
   * @throws StateError `ERR_STATE_VCPU_PARKED` after `timeoutMs`; the vCPUs still stop as soon as
   *   they can, and another call waits for them again
   */
  async stop(timeoutMs: number): Promise<void> {
    if (addon().machineStop(this.#machine, STOP_WAIT_US)) return
    const isQuiet = (): boolean =>
      this.#handle === undefined || addon().machineStop(this.#machine, 0)
    if (await until(isQuiet, STOP_POLL_MS, timeoutMs)) return
    const parked = this.stats().flatMap(({ touching, threadId }, vcpu) =>
      touching === undefined
        ? []
        : [
            `vCPU ${vcpu} (thread ${threadId}) has waited ${Math.round(touching.sinceUs / 1000)} ms ` +
              `for page ${touching.page} of ram`,
          ],
    )
    throw new StateError(
      'ERR_STATE_VCPU_PARKED',
      `the guest did not stop in ${timeoutMs} ms: ${parked.join('; ')}`,
      'stopping',
    )
  }

  /** Writes version 1 of the pages that the workload fills, on a separate thread. */
  async fill(): Promise<void> {
    await this.#scan(() => addon().machineFill(this.#machine))
  }

  /**
   * Checks every page, on a separate thread, because pages may be missing.
   *
   * @param seals - the pages of `ram` that belong to devices
   * @param signal - ends the wait; the scan itself ends after its next page
   * @throws StateError `ERR_STATE_BUSY` while vCPUs or another scan run
   */
  async verify(seals: readonly Seal[], signal?: AbortSignal): Promise<ScanReport> {
    const sealed = new Float64Array(seals.length * SealedPage.stride)
    seals.forEach(({ page, checksum }, index) => {
      sealed[index * SealedPage.stride + SealedPage.page] = page
      sealed[index * SealedPage.stride + SealedPage.checksum] = checksum
    })
    const { pages, counts, findings } = await this.#scan(
      () => addon().machineVerify(this.#machine, sealed),
      signal,
    )
    return { pages, counts, findings: decodeFindings(findings) }
  }

  /** Whether a fill or a check is running. */
  get scanning(): boolean {
    return addon().machineScanRunning(this.#machine)
  }

  /** Number of pages that the running {@link fill} or {@link verify} has finished. */
  get scannedPages(): number {
    return addon().machineScannedPages(this.#machine)
  }

  /** The first failed checks of running vCPUs. */
  findings(): Finding[] {
    return decodeFindings(addon().machineFindings(this.#machine))
  }

  threadIds(): number[] {
    return this.#each((vcpu) => addon().vcpuThreadId(this.#machine, vcpu))
  }

  stats(): VcpuStats[] {
    return this.#each((vcpu) => readVcpuStats(this.#machine, vcpu))
  }

  histograms(): TouchHistogram[] {
    return this.#each((vcpu) => TouchHistogram.of(this.#machine, vcpu))
  }

  save(vcpu: number, state: BigUint64Array): void {
    addon().vcpuSave(this.#machine, vcpu, state)
  }

  /** Returns false for a state that is impossible with this workload. */
  load(vcpu: number, state: BigUint64Array): boolean {
    return addon().vcpuLoad(this.#machine, vcpu, state) === 0
  }

  /**
   * Ends the threads. A parked thread stays, and its memory with it, until its page arrives.
   *
   * @returns false if some did not end within `timeoutMs`
   */
  async close(timeoutMs: number): Promise<boolean> {
    const machine = this.#handle
    if (machine === undefined) return true
    addon().machineQuit(machine)
    const isGone = await until(() => addon().machineGone(machine), STOP_POLL_MS, timeoutMs)
    this.#handle = undefined
    addon().machineClose(machine)
    return isGone
  }

  get #machine(): MachineHandle {
    if (this.#handle === undefined) throw closedError('the guest')
    return this.#handle
  }

  #each<T>(read: (vcpu: number) => T): T[] {
    return Array.from({ length: this.count }, (_, vcpu) => read(vcpu))
  }

  async #scan(begin: () => number, signal?: AbortSignal): Promise<NativeScanResult> {
    signal?.throwIfAborted()
    this.#check(begin())
    const isOver = (): boolean =>
      this.#handle === undefined || !this.scanning || signal?.aborted === true
    await until(isOver, SCAN_POLL_MS)
    if (signal?.aborted === true) {
      // The scan may be parked on a missing page; it ends after that page.
      addon().machineCancelScan(this.#machine)
      signal.throwIfAborted()
    }
    const result = addon().machineTakeScanResult(this.#machine)
    if (!result.complete) throw closedError('the guest')
    return result
  }

  /** The addon returns EBUSY while vCPUs or a scan run; starting a thread may fail, too. */
  #check(result: number): void {
    if (result === -constants.errno.EBUSY) {
      throw new StateError('ERR_STATE_BUSY', 'guest RAM is in use by vCPUs or a scan', 'busy')
    }
    check(result, 'pthread_create', () => 'scan')
  }
}

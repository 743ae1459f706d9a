/** The vCPU addon (native/vcpu/addon.cc), loaded on first use. */
import { loadAddon, type RegionLease } from '../kernel/index.js'
import { callNumbers, rowOf, type Numbers } from '../kernel/internal.js'

declare const handle: unique symbol

/** The native part of a machine. Its threads outlive the handle until they can end. */
export interface MachineHandle {
  readonly [handle]: 'MachineHandle'
}

/** Numbers of {@link VcpuAddon.machineConfigure}. */
export class ConfigureCall extends callNumbers(
  'machineConfigure',
  ['pattern', 'writesPercent', 'fillPercent', 'hotPages', 'touches', 'rate', 'seed'],
  [],
) {}

/** Numbers of {@link VcpuAddon.vcpuReadStats}. */
export class StatsCall extends callNumbers(
  'vcpuReadStats',
  [],
  [
    'activity',
    'touches',
    'reads',
    'writes',
    'failedChecks',
    'blocktimeUs',
    'maxTouchNs',
    'touchedPage',
    'touchedForUs',
    'firstPage',
    'pageCount',
  ],
) {}

/** A row of findings; verdict and block are indexes, see findings.ts. */
export const FindingRow = rowOf('finding', [
  'verdict',
  'block',
  'offsetBytes',
  'lengthBytes',
  'got',
  'expected',
])

/** A page of `ram` that a device owns, and its checksum. */
export const SealedPage = rowOf('sealedPage', ['page', 'checksum'])

/** What of a vCPU migrates, in 64-bit words. */
export const VcpuState = rowOf('vcpuState', [
  'random',
  'position',
  'touches',
  'reads',
  'writes',
  'failedChecks',
  'filled',
])

export interface NativeScanResult {
  /** False if it was cancelled. */
  complete: boolean
  pages: number
  counts: number[]
  /** Rows of {@link FindingRow}. */
  findings: Float64Array
}

/** Functions that may fail return 0 or a negative errno. */
export interface VcpuAddon {
  machineCreate(
    ram: RegionLease,
    ledger: RegionLease,
    vcpus: number,
    vcpuPages: number,
  ): MachineHandle | number
  machineConfigure(machine: MachineHandle, numbers: Numbers<'machineConfigure'>): number
  machineStart(machine: MachineHandle): number
  /** Asks the vCPUs to leave guest RAM, and blocks for up to `waitUs`; true if all have left. */
  machineStop(machine: MachineHandle, waitUs: number): boolean
  machineQuit(machine: MachineHandle): void
  /** Releases the handle; threads that still run keep what they use. */
  machineClose(machine: MachineHandle): void
  /** True when all threads have ended. */
  machineGone(machine: MachineHandle): boolean
  machineFill(machine: MachineHandle): number
  /** @param sealed - rows of {@link SealedPage} */
  machineVerify(machine: MachineHandle, sealed: Float64Array): number
  machineCancelScan(machine: MachineHandle): void
  machineScanRunning(machine: MachineHandle): boolean
  machineScannedPages(machine: MachineHandle): number
  machineTakeScanResult(machine: MachineHandle): NativeScanResult
  /** The findings of running vCPUs: rows of {@link FindingRow}. */
  machineFindings(machine: MachineHandle): Float64Array
  vcpuThreadId(machine: MachineHandle, vcpu: number): number
  /** @param state - of {@link VcpuState} */
  vcpuSave(machine: MachineHandle, vcpu: number, state: BigUint64Array): void
  vcpuLoad(machine: MachineHandle, vcpu: number, state: BigUint64Array): number
  vcpuReadStats(machine: MachineHandle, vcpu: number, numbers: Numbers<'vcpuReadStats'>): void
  vcpuReadHistogram(machine: MachineHandle, vcpu: number, out: Float64Array): void
  checksum(bytes: Uint8Array): number
}

let loaded: VcpuAddon | undefined

/** @throws PostcopyError if the addon was not built, or does not load */
export function addon(): VcpuAddon {
  return (loaded ??= loadAddon('vcpu') as VcpuAddon)
}

/**
 * What can be migrated: anything with RAM blocks, a way to stop and start, and device state that
 * can be saved and loaded. `src/guest/` implements one such machine.
 */
import type { MemoryRegion } from '../kernel/index.js'
import type { PageSourceBlock } from '../sources/index.js'

/** A RAM block in memory. Name and length must be the same on both ends. */
export interface MachineBlock {
  /** At most 255 bytes of UTF-8; unique in the machine. */
  readonly name: string
  readonly region: MemoryRegion
  /** Bytes; a multiple of the region's page size. */
  readonly lengthBytes: number
  /**
   * Host page of the machine, in bytes, if it is larger than the region's: a file of a hugetlb
   * block.
   */
  readonly pageSizeBytes?: number
}

/** A block of a page source has no memory here, so its machine can be sent but cannot receive. */
export function isInMemory(block: MachineBlock | PageSourceBlock): block is MachineBlock {
  return 'region' in block
}

/** The state of one device, one FULL section of the stream. */
export interface DeviceState {
  readonly idstr: string
  readonly instanceId: number
  readonly version: number
  readonly data: Uint8Array
}

/** Whole pages of a block. */
export interface RamRange {
  readonly block: string
  /** Bytes. */
  readonly offset: number
  /** Bytes. */
  readonly lengthBytes: number
}

/**
 * Lives on the main thread; the workers see only its RAM blocks.
 *
 * At a destination, the main thread may touch guest RAM in {@link MigratableMachine.loadDevice},
 * {@link MigratableMachine.loadOpaque} and {@link MigratableMachine.finishLoading}, and again once
 * the migration is `completed`. In between the thread may wait for a page that never arrives, see
 * `Destination`.
 */
export interface MigratableMachine {
  /** Sent in the configuration section; must be equal on both ends. */
  readonly machineType: string
  /**
   * The whole configuration element, sent as it is, for the machine of another program. Default:
   * built from `machineType`.
   */
  readonly configuration?: Uint8Array
  /**
   * FULL sections that are sent before RAM, as they are, for the machine of another program: devices
   * with early setup, such as virtio-mem. Default: none.
   */
  readonly earlySections?: Uint8Array
  /** Section id of `ram`, for device sections that already have ids. */
  readonly ramSectionId?: number
  readonly blocks: readonly (MachineBlock | PageSourceBlock)[]
  /**
   * The machine never runs, and its memory is never written: several sources may send it at once.
   * Default false: one migration owns it at a time.
   */
  readonly readOnly?: boolean
  /**
   * The few pages that {@link loadDevice} will read, if they are known. A source sends them right
   * before the devices; otherwise loading would wait for them one by one.
   */
  readonly loadRanges?: readonly RamRange[]
  /** Whether the vCPUs run now. */
  readonly running: boolean
  start(): void
  /**
   * Resolves when no vCPU can touch RAM any more. Rejects after its own deadline if a vCPU does not
   * stop.
   */
  stop(): Promise<void>
  /**
   * Called while the guest is stopped; returns devices in loading order. The state includes whether
   * the vCPUs ran until {@link stop}: the other end then runs them, or leaves them paused.
   *
   * @returns one state per device, or all their FULL sections as they are to be sent
   */
  saveDevices(): DeviceState[] | Uint8Array
  /**
   * Loads one device. May touch guest RAM that has not arrived: the thread then waits until the
   * page is placed.
   *
   * @param data - from the first byte of this device's state to the end of the package
   * @returns how many bytes belonged to this device
   */
  loadDevice(idstr: string, instanceId: number, version: number, data: Uint8Array): number
  /**
   * Called after all devices of the stream are loaded, before the destination commits to the
   * source.
   *
   * @throws if the machine is incomplete: the source then keeps the guest
   */
  finishLoading?(): void
  /**
   * For a machine that does not know the source's devices: takes all their sections at once, and
   * {@link loadDevice} is never called.
   *
   * @param sections - belongs to the machine
   */
  loadOpaque?(sections: Uint8Array): void
  /**
   * Decides whether this machine can take the source's. If present, it replaces the check that
   * {@link machineType} is equal.
   *
   * @param raw - the whole configuration element
   * @throws if it cannot
   */
  checkConfiguration?(machineType: string, raw: Uint8Array): void
  /**
   * Called after every device is loaded: continues as the source was, running or paused. If it
   * throws, {@link stop} is called and the guest still stays here, see `Destination`.
   */
  resumeAfterLoad(): void
  /** Kernel thread ids of the vCPUs, in order; they attribute each fault to a vCPU. */
  vcpuThreadIds(): number[]
}

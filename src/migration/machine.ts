/**
 * What can be migrated. `src/guest/` has one kind of machine; anything with RAM blocks, a way to
 * stop and start, and device state that can be saved and loaded is another.
 */
import type { MemoryRegion } from '../kernel/index.js'
import type { PageBitmap } from '../ram/index.js'

/** A RAM block as its owner sees it. Name and length must be the same on both ends. */
export interface MachineBlock {
  /** At most 255 bytes of UTF-8; unique in the machine. */
  readonly name: string
  readonly region: MemoryRegion
  /** Bytes; a multiple of the region's page size. */
  readonly lengthBytes: number
  /** Host page of the machine, in bytes, where the region has a smaller one: a file of a hugetlb block. */
  readonly pageSizeBytes?: number
  /** The pages that are there, of a source that lost the others behind the switch; default: all. */
  readonly available?: PageBitmap
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
 * At a destination, guest RAM may be touched on the main thread in {@link MigratableMachine.loadDevice},
 * {@link MigratableMachine.loadOpaque} and {@link MigratableMachine.finishLoading}, and again when the
 * migration is `completed`. In between the thread may wait for a page that never arrives, see `Destination`.
 */
export interface MigratableMachine {
  /** Sent in the configuration section; must be equal on both ends. */
  readonly machineType: string
  /** The whole configuration element, for a machine of another's: sent as it is. Default: made of the type. */
  readonly configuration?: Uint8Array
  /** Section id of `ram` where device sections come with ids of their own. */
  readonly ramSectionId?: number
  readonly blocks: readonly MachineBlock[]
  /**
   * It never runs, and its memory is never written: any number of sources may send it at once.
   * Default false: one migration has it at a time.
   */
  readonly readOnly?: boolean
  /**
   * What {@link loadDevice} will read, a few pages, where that is known: a source sends them right
   * before the devices, so that loading has not to wait for one after the other.
   */
  readonly loadRanges?: readonly RamRange[]
  /** Whether the vCPUs run now. */
  readonly running: boolean
  start(): void
  /** Resolves when no vCPU can touch RAM any more; rejects, with a deadline of its own, if one does not stop. */
  stop(): Promise<void>
  /**
   * Called while stopped, in the order of loading. Includes whether the vCPUs ran until
   * {@link stop}: the other end goes on, or stays paused.
   *
   * @returns one state a device, or all their FULL sections as they are to be sent
   */
  saveDevices(): DeviceState[] | Uint8Array
  /**
   * Loads one device. May touch guest RAM that has not arrived: the thread is then parked until
   * the page is there.
   *
   * @param data - from the first byte of this device's state to the end of the package
   * @returns how many bytes were this device's
   */
  loadDevice(idstr: string, instanceId: number, version: number, data: Uint8Array): number
  /**
   * Called when all devices of the stream are loaded, before anything is promised to the source.
   *
   * @throws where the machine is not whole: the source then keeps the guest
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
   * Decides whether this machine can take the source's, instead of {@link machineType}, which must be equal.
   *
   * @param raw - the whole configuration element
   * @throws where it cannot
   */
  checkConfiguration?(machineType: string, raw: Uint8Array): void
  /**
   * Called when every device is loaded: goes on as the source was, running or paused. If it throws,
   * {@link stop} is called and the guest stays here all the same, see `Destination`.
   */
  resumeAfterLoad(): void
  /** Kernel thread ids of the vCPUs, in order, to tell whose fault a fault was. */
  vcpuThreadIds(): number[]
}

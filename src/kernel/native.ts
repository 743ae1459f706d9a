/**
 * What `postcopy.node` exports. Functions return a count or `-errno`; they throw `TypeError` and
 * `RangeError` for arguments only. Handles belong to the thread that made them.
 */

declare const tag: unique symbol

/** A handle on a mapping. */
export interface NativeRegion {
  readonly [tag]: 'region'
}
/** A handle on a userfaultfd. */
export interface NativeUserfaultfd {
  readonly [tag]: 'userfaultfd'
}
/** A running watch. */
export interface NativeWatch {
  readonly [tag]: 'watch'
}
/** A native thread that ends the process, see native/addon/fault_guard.h. */
export interface NativeFaultGuard {
  readonly [tag]: 'fault-guard'
}
/** A mapping lent to another addon, see native/common/region_lease.h. */
export interface RegionLease {
  readonly [tag]: 'lease'
}

export interface NativeRegionInfo {
  id: number
  /** Index into {@link regionKinds}. */
  kind: number
  address: number
  /** 0 if there is none. */
  aliasAddress: number
  lengthBytes: number
  pageSizeBytes: number
  fd: number
}

/** In the order of the addon's numbers. */
export const regionKinds = ['anon', 'memfd', 'hugetlb', 'file'] as const

/**
 * `anon`: private. `memfd`, `hugetlb` (2 MiB pages): shared, may be mapped twice. `file`:
 * {@link MemoryRegion.openFile}.
 */
export type RegionKind = (typeof regionKinds)[number]

export interface NativeUserfaultfdInfo {
  id: number
  fd: number
  /** Index into {@link openMethods}. */
  door: number
  userModeOnly: boolean
  features: bigint
  available: bigint
}

/** In the order of the addon's numbers. */
export const openMethods = ['device', 'syscall'] as const

/** How a userfaultfd is opened: `/dev/userfaultfd` (Linux 6.1), or userfaultfd(2). */
export type OpenMethod = (typeof openMethods)[number]

type Region = NativeRegion
type Uffd = NativeUserfaultfd
type Info = NativeUserfaultfdInfo

/** The pages to pack, the output buffer, and the array for the results. */
export type Packing = [
  region: NativeRegion,
  bitmap: Uint8Array,
  from: number,
  to: number,
  hostPages: number,
  maxPages: number,
  name: Uint8Array | undefined,
  out: Uint8Array,
  outOffset: number,
  result: Float64Array,
]

export interface NativeAddon {
  /** An array names the system call that failed: `[-errno, name]`. */
  regionCreate(kind: number, lengthBytes: number, alias: boolean, name: string): Region | Failure
  regionOpenFile(fd: number, lengthBytes: number, writable: boolean): Region | Failure
  regionAttach(id: number): Region | number
  regionInfo(region: Region): NativeRegionInfo
  regionClose(region: Region): void
  regionLease(region: Region): RegionLease
  regionMadvise(region: Region, offset: number, length: number, advice: string): number
  regionDiscard(region: Region, offset: number, length: number): number
  regionMincore(region: Region, offset: number, length: number, out: Uint8Array): number
  regionRead(region: Region, offset: number, target: Uint8Array): number
  regionWrite(region: Region, offset: number, source: Uint8Array, alias: boolean): number
  regionTouch(region: Region, offset: number, length: number, write: boolean): number
  regionReadFile(region: Region, offset: number, length: number, fd: number, at: number): number
  regionWriteFile(region: Region, offset: number, length: number, fd: number, at: number): number

  /** Sets bits of `bitmap`; returns how many were clear. */
  pagemapScanDirty(region: Region, lengthBytes: number, bitmap: Uint8Array, arm: boolean): number
  /** Writes triples to `out`; its last element becomes the offset to continue from. */
  pagemapScan(
    region: Region,
    offset: number,
    length: number,
    flags: number,
    maxPages: number,
    inverted: number,
    all: number,
    any: number,
    report: number,
    out: Float64Array,
  ): number

  /** The features of the kernel, or `-errno`. */
  uffdProbe(door: number, userModeOnly: boolean): bigint | number
  /** A number is the `-errno` of the open, a number in an array that of the handshake. */
  uffdOpen(door: number, userModeOnly: boolean, features: bigint): Uffd | number | [number]
  uffdAttach(id: number): Uffd | number
  uffdInfo(uffd: Uffd): Info
  uffdClose(uffd: Uffd): void
  /** The mask of ioctls, or `-errno`. */
  uffdRegister(
    uffd: Uffd,
    address: number,
    length: number,
    missing: boolean,
    writeProtect: boolean,
    minor: boolean,
  ): bigint | number
  uffdUnregister(uffd: Uffd, address: number, length: number): number
  uffdCopy(uffd: Uffd, dst: number, src: Uint8Array, dontWake: boolean, protect: boolean): number
  uffdMove(
    uffd: Uffd,
    dst: number,
    src: number,
    length: number,
    dontWake: boolean,
    allowSourceHoles: boolean,
  ): number
  uffdZeropage(uffd: Uffd, dst: number, length: number, dontWake: boolean): number
  uffdContinue(
    uffd: Uffd,
    start: number,
    length: number,
    dontWake: boolean,
    protect: boolean,
  ): number
  uffdPoison(uffd: Uffd, start: number, length: number, dontWake: boolean): number
  uffdWake(uffd: Uffd, start: number, length: number): number
  uffdWriteProtect(
    uffd: Uffd,
    start: number,
    length: number,
    enable: boolean,
    dontWake: boolean,
  ): number
  uffdRead(uffd: Uffd, events: Float64Array): number
  /** Passes libuv's status to `listener`. */
  watchStart(uffd: Uffd, listener: (status: number) => void, ref: boolean): NativeWatch | number
  watchStop(watch: NativeWatch): void

  guardStart(uffd: Uffd, threadId: number): NativeFaultGuard | number
  guardDescribe(
    guard: NativeFaultGuard,
    address: number,
    length: number,
    before: string,
    after: string,
    pageSizeBytes: number,
    received: Uint8Array,
    zeroed: Uint8Array,
  ): void
  guardBegin(guard: NativeFaultGuard): void
  guardStop(guard: NativeFaultGuard): void

  packPages(...packing: Packing): number
  sendPages(...sending: [...packing: Packing, fd: number, piecePages: number]): number
  loadRecords(
    region: Region,
    usedLength: number,
    received: Uint8Array,
    zeroed: Uint8Array,
    bytes: Uint8Array,
    start: number,
    end: number,
    result: Float64Array,
  ): number
  placeRecords(
    uffd: Uffd,
    region: Region,
    usedLength: number,
    received: Uint8Array,
    bytes: Uint8Array,
    start: number,
    end: number,
    result: Float64Array,
  ): number
  storeRecords(
    fd: number,
    usedLength: number,
    received: Uint8Array,
    zeroed: Uint8Array,
    bytes: Uint8Array,
    start: number,
    end: number,
    result: Float64Array,
  ): number
  assembleRecords(
    staging: Uint8Array,
    state: Int32Array,
    usedLength: number,
    received: Uint8Array,
    bytes: Uint8Array,
    start: number,
    end: number,
    result: Float64Array,
  ): number

  bitmapRuns(bitmap: Uint8Array, from: number, to: number, out: Float64Array): number
  bitmapFindNext(bitmap: Uint8Array, from: number, to: number): number
  bitmapCount(bitmap: Uint8Array, from: number, to: number): number
  bitmapFill(bitmap: Uint8Array, from: number, to: number, value: boolean): number
  bitmapRoundOut(bitmap: Uint8Array, pages: number, hostPages: number): number
  bitmapMerge(bitmap: Uint8Array, other: Uint8Array, how: 'add' | 'keep' | 'remove'): void
  bytesAreZero(bytes: Uint8Array): boolean

  socketSet(fd: number, option: string, value: number): number
  socketGet(fd: number, option: string): number
  socketOutstanding(fd: number): number
  socketSend(fd: number, bytes: Uint8Array): number
  fdSpin(fd: number, otherFd: number, microseconds: number): number
  /** Returns a descriptor. */
  socketListenUnix(path: string, mode: number): number
  fdDuplicate(fd: number): number
  fdClose(fd: number): number
  /** `_exit(2)`: does not return. */
  processExit(status: number): void
}

export type Failure = [errno: number, syscall: string]

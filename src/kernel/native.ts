/**
 * What `postcopy.node` exports. Functions return a count or `-errno`; they throw `TypeError` and
 * `RangeError` for arguments only. Handles belong to the thread that made them.
 *
 * A function with many numbers takes them in one array, which the class of that call names.
 */
import { callNumbers, rowOf, type Numbers } from './layout.js'

declare const tag: unique symbol

/** A handle on a mapping. */
export interface NativeRegion {
  readonly [tag]: 'region'
}
/** A handle on the files of a block. */
export interface NativePageFile {
  readonly [tag]: 'page-file'
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
  method: number
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

/** Numbers of {@link NativeAddon.packPages}. */
export class PackCall extends callNumbers(
  'packPages',
  ['from', 'to', 'hostPages', 'maxPages', 'outOffset', 'wait'],
  ['nextPage', 'normalPages', 'zeroPages', 'isWaiting'],
) {}

/** Numbers of {@link NativeAddon.sendPages}. */
export class SendCall extends callNumbers(
  'sendPages',
  ['from', 'to', 'hostPages', 'maxPages', 'outOffset', 'wait', 'fd', 'piecePages'],
  ['nextPage', 'normalPages', 'zeroPages', 'isWaiting', 'sentBytes', 'unsentFrom', 'interrupted'],
) {}

/** Numbers of {@link NativeAddon.loadRecords}. */
export class LoadCall extends callNumbers(
  'loadRecords',
  ['usedLength', 'start', 'end'],
  ['normalPages', 'zeroPages'],
) {}

/** Numbers of {@link NativeAddon.assembleRecords}. */
export class AssembleCall extends callNumbers(
  'assembleRecords',
  ['usedLength', 'start', 'end'],
  ['normalPages', 'zeroPages', 'stop'],
) {}

/** Numbers of {@link NativeAddon.placeRecords}. */
export class PlaceCall extends callNumbers(
  'placeRecords',
  ['usedLength', 'start', 'end'],
  ['normalPages', 'zeroPages', 'errno', 'offset', 'ioctls', 'stop'],
) {}

/** Numbers of {@link NativeAddon.storeRecords}. */
export class StoreCall extends callNumbers(
  'storeRecords',
  ['usedLength', 'start', 'end'],
  ['normalPages', 'zeroPages', 'errno', 'offset'],
) {}

/** Numbers of {@link NativeAddon.pagemapScan}. */
export class ScanCall extends callNumbers(
  'pagemapScan',
  ['offset', 'length', 'flags', 'maxPages', 'inverted', 'all', 'any', 'report'],
  ['next'],
) {}

/** Numbers of {@link NativeAddon.guardDescribe}. */
export class GuardCall extends callNumbers(
  'guardDescribe',
  ['address', 'length', 'pageSizeBytes'],
  [],
) {}

/** A run of pages in files, see {@link NativeAddon.pageFileOpen}. */
export const PageFileRun = rowOf('pageFileRun', [
  'firstPage',
  'pageCount',
  'file',
  'offset',
  'strideBytes',
])

/** A part of a file that is not a hole, in the output of {@link NativeAddon.fileExtents}. */
export const FileExtent = rowOf('fileExtent', ['start', 'end'])

/** A run of pages in the output of {@link NativeAddon.bitmapRuns}. */
export const PageRun = rowOf('pageRun', ['start', 'end'])

/** The first numbers of the state of {@link NativeAddon.assembleRecords}. */
export const Assembly = rowOf('assembly', ['hostPage', 'seenPages'])

/** `UFFDIO_REGISTER_MODE_…` */
export const RegisterMode = { missing: 1, writeProtect: 2, minor: 4 } as const
/** `UFFDIO_…_MODE_DONTWAKE` of every ioctl that fills pages. */
export const FillMode = { dontWake: 1 } as const
/** `UFFDIO_COPY_MODE_WP` */
export const CopyMode = { writeProtect: 2 } as const
/** `UFFDIO_CONTINUE_MODE_WP` */
export const ContinueMode = { writeProtect: 2 } as const
/** `UFFDIO_MOVE_MODE_ALLOW_SRC_HOLES` */
export const MoveMode = { allowSourceHoles: 2 } as const
/** `UFFDIO_WRITEPROTECT_MODE_WP` and `…_DONTWAKE` */
export const WriteProtectMode = { enable: 1, dontWake: 2 } as const

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

  pageFileOpen(
    fds: Int32Array,
    lengthBytes: number,
    runs: Float64Array,
    data: Uint8Array | undefined,
  ): NativePageFile | number
  pageFileAttach(id: number): NativePageFile | number
  pageFileInfo(file: NativePageFile): { id: number; lengthBytes: number }
  pageFileClose(file: NativePageFile): void
  /** 1 if the page is in a file, then `out` has a {@link PageFileRun}; else 0. */
  pageFileFind(file: NativePageFile, page: number, out: Float64Array): number

  /** Sets bits of `bitmap`; returns how many were clear. */
  pagemapScanDirty(region: Region, lengthBytes: number, bitmap: Uint8Array, arm: boolean): number
  /** The number of ranges in `out` (PageRange in pagemap.ts). */
  pagemapScan(region: Region, out: Float64Array, numbers: Numbers<'pagemapScan'>): number

  /** The features of the kernel, or `-errno`. */
  uffdProbe(method: number, userModeOnly: boolean): bigint | number
  /** A number is the `-errno` of the open, a number in an array that of the handshake. */
  uffdOpen(method: number, userModeOnly: boolean, features: bigint): Uffd | number | [number]
  uffdAttach(id: number): Uffd | number
  uffdInfo(uffd: Uffd): Info
  uffdClose(uffd: Uffd): void
  /** The mask of ioctls, or `-errno`; `mode` is of {@link RegisterMode}. */
  uffdRegister(uffd: Uffd, address: number, length: number, mode: number): bigint | number
  uffdUnregister(uffd: Uffd, address: number, length: number): number
  /** `mode`: {@link FillMode}, {@link CopyMode}. */
  uffdCopy(uffd: Uffd, dst: number, src: Uint8Array, mode: number): number
  /** `mode`: {@link FillMode}, {@link MoveMode}. */
  uffdMove(uffd: Uffd, dst: number, src: number, length: number, mode: number): number
  /** `mode`: {@link FillMode}. */
  uffdZeropage(uffd: Uffd, dst: number, length: number, mode: number): number
  /** `mode`: {@link FillMode}, {@link ContinueMode}. */
  uffdContinue(uffd: Uffd, start: number, length: number, mode: number): number
  /** `mode`: {@link FillMode}. */
  uffdPoison(uffd: Uffd, start: number, length: number, mode: number): number
  uffdWake(uffd: Uffd, start: number, length: number): number
  /** `mode`: {@link WriteProtectMode}. */
  uffdWriteProtect(uffd: Uffd, start: number, length: number, mode: number): number
  /** The number of messages in `events` (events.ts). */
  uffdRead(uffd: Uffd, events: Float64Array): number
  /** Passes libuv's status to `listener`. */
  watchStart(uffd: Uffd, listener: (status: number) => void, ref: boolean): NativeWatch | number
  watchStop(watch: NativeWatch): void

  guardStart(uffd: Uffd, threadId: number): NativeFaultGuard | number
  guardDescribe(
    guard: NativeFaultGuard,
    before: string,
    after: string,
    received: Uint8Array,
    zeroed: Uint8Array,
    numbers: Numbers<'guardDescribe'>,
  ): void
  guardBegin(guard: NativeFaultGuard): void
  guardStop(guard: NativeFaultGuard): void

  packPages(
    pages: Region | NativePageFile,
    bitmap: Uint8Array,
    name: Uint8Array | undefined,
    out: Uint8Array,
    numbers: Numbers<'packPages'>,
  ): number
  sendPages(
    pages: Region | NativePageFile,
    bitmap: Uint8Array,
    name: Uint8Array | undefined,
    out: Uint8Array,
    numbers: Numbers<'sendPages'>,
  ): number
  loadRecords(
    region: Region,
    received: Uint8Array,
    zeroed: Uint8Array,
    bytes: Uint8Array,
    numbers: Numbers<'loadRecords'>,
  ): number
  placeRecords(
    uffd: Uffd,
    region: Region,
    received: Uint8Array,
    bytes: Uint8Array,
    numbers: Numbers<'placeRecords'>,
  ): number
  storeRecords(
    fd: number,
    received: Uint8Array,
    zeroed: Uint8Array,
    bytes: Uint8Array,
    numbers: Numbers<'storeRecords'>,
  ): number
  assembleRecords(
    staging: Uint8Array,
    state: Int32Array,
    received: Uint8Array,
    bytes: Uint8Array,
    numbers: Numbers<'assembleRecords'>,
  ): number

  /** The number of runs in `out` ({@link PageRun}). */
  bitmapRuns(bitmap: Uint8Array, from: number, to: number, out: Float64Array): number
  bitmapFindNext(bitmap: Uint8Array, from: number, to: number): number
  bitmapCount(bitmap: Uint8Array, from: number, to: number): number
  bitmapFill(bitmap: Uint8Array, from: number, to: number, value: boolean): number
  bitmapRoundOut(bitmap: Uint8Array, pages: number, hostPages: number): number
  bitmapMerge(bitmap: Uint8Array, other: Uint8Array, how: 'add' | 'keep' | 'remove'): void
  bytesAreZero(bytes: Uint8Array): boolean

  /** Where it stopped in `bytes`. */
  checksumRecords(
    values: Uint8Array,
    firstPage: number,
    bytes: Uint8Array,
    start: number,
    end: number,
  ): number
  checksumPages(bytes: Uint8Array, values: Uint8Array): void
  crc32c(before: number, bytes: Uint8Array, portable: boolean): number

  socketSet(fd: number, option: string, value: number): number
  socketGet(fd: number, option: string): number
  socketOutstanding(fd: number): number
  socketSend(fd: number, bytes: Uint8Array): number
  socketPeerPid(fd: number): number
  fdSpin(fd: number, otherFd: number, microseconds: number): number
  /** Returns a descriptor. */
  socketListenUnix(path: string, mode: number): number
  fdDuplicate(fd: number): number
  fdClose(fd: number): number
  /** The number of {@link FileExtent} in `out`. */
  fileExtents(fd: number, from: number, to: number, out: Float64Array): number
  /** `_exit(2)`: does not return. */
  processExit(status: number): void
}

export type Failure = [errno: number, syscall: string]

import { constants } from 'node:os'
import { KernelError } from '../errors.js'
import type { HostAddress } from '../units.js'
import type { Advice } from './advice.js'
import {
  checkHugePageLimit,
  creationHint,
  faultHint,
  hugePageShortage,
  scanHint,
} from './region-hints.js'
import {
  NO_HANDLE_HINT,
  check,
  checkOptions,
  closedError,
  errnoName,
  kernelError,
} from './check.js'
import { native } from './load.js'
import { ScanCall, regionKinds } from './native.js'
import type { Failure, NativeRegion, NativeRegionInfo, RegionKind, RegionLease } from './native.js'
import { categoryMask, scanFlags, scanOptionNames } from './pagemap.js'
import type { ScanOptions, ScanResult } from './pagemap.js'
import { hex } from '../units.js'

export interface RegionOptions {
  kind: Exclude<RegionKind, 'file'>
  /** Whole pages. */
  lengthBytes: number
  /** Map the memory a second time. Default false; not for `anon`. */
  alias?: boolean
  /** What /proc/PID/maps shows for `memfd` and `hugetlb`; default `postcopy`. */
  name?: string
}

export interface FileRegionOptions {
  /** A regular file. The region duplicates the descriptor; the caller keeps and closes its own. */
  fd: number
  /**
   * Whole pages, not more than the file has. If the file is truncated later, an access to the
   * memory raises SIGBUS. For files that others may truncate, see {@link PageFile}.
   */
  lengthBytes: number
  /** Default false. */
  writable?: boolean
}

const HUGE_PAGE_BYTES = 2 ** 21

/** For the other files of this folder: the handle of an open region. */
export let regionHandle: (region: MemoryRegion) => NativeRegion

/**
 * Memory that this process mapped, for guests and their pages.
 *
 * A handle belongs to the thread that made it; {@link MemoryRegion.attach} makes another one from
 * the id, in any worker. The memory is unmapped when the last handle and the last lease to another
 * addon are closed or garbage collected. Therefore keep a handle as long as the id is in use. Child
 * processes do not inherit the memory (`MADV_DONTFORK`).
 *
 * There is deliberately no view of the memory: reading a missing page blocks the reading thread,
 * and any `Buffer` method would do so. The accessors copy, and block in the same way: never use
 * them on the thread that resolves the faults of this region.
 */
export class MemoryRegion {
  readonly id: number
  readonly kind: RegionKind
  readonly address: HostAddress
  /** Address of the second mapping of the same pages. */
  readonly aliasAddress: HostAddress | undefined
  readonly lengthBytes: number
  /** Host page size: 4096, or 2 MiB for hugetlb. */
  readonly pageSizeBytes: number
  /** The memfd or file; -1 for `anon`. Valid until `close()`. */
  readonly fd: number
  #handle: NativeRegion | undefined

  private constructor(handle: NativeRegion) {
    const info: NativeRegionInfo = native().regionInfo(handle)
    this.#handle = handle
    this.id = info.id
    this.kind = regionKinds[info.kind] ?? 'anon'
    this.address = info.address as HostAddress
    this.aliasAddress = info.aliasAddress === 0 ? undefined : (info.aliasAddress as HostAddress)
    this.lengthBytes = info.lengthBytes
    this.pageSizeBytes = info.pageSizeBytes
    this.fd = info.fd
  }

  /**
   * Maps new memory. Huge pages are reserved here, so that a shortage is not a SIGBUS later.
   *
   * @throws KernelError `ENOMEM`: not enough memory or huge pages. `EINVAL`: not whole pages
   * @see mmap(2), memfd_create(2)
   */
  static create(options: RegionOptions): MemoryRegion {
    checkOptions(options, ['kind', 'lengthBytes', 'alias', 'name'])
    const { kind, lengthBytes, alias = false, name = 'postcopy' } = options
    const number = ['anon', 'memfd', 'hugetlb'].indexOf(kind)
    if (number < 0) throw new TypeError('kind must be anon, memfd or hugetlb')
    if (alias && kind === 'anon') throw new TypeError('alias needs kind memfd or hugetlb')
    if (kind === 'hugetlb') checkHugePageLimit(lengthBytes)
    const made = native().regionCreate(number, lengthBytes, alias, name)
    return MemoryRegion.#made(made, `${kind}, ${lengthBytes} bytes`, kind)
  }

  /**
   * Maps a file (MAP_SHARED) from its beginning.
   *
   * @throws KernelError `EINVAL`: not a regular file, shorter than `lengthBytes`, or not whole
   *   pages. `EACCES`: `fd` is not open for reading, or for writing where `writable` is set
   */
  static openFile(options: FileRegionOptions): MemoryRegion {
    checkOptions(options, ['fd', 'lengthBytes', 'writable'])
    const { fd, lengthBytes, writable = false } = options
    const made = native().regionOpenFile(fd, lengthBytes, writable)
    return MemoryRegion.#made(made, `fd ${fd}, ${lengthBytes} bytes`, 'file')
  }

  /**
   * Makes another handle on a region of this process.
   *
   * @throws KernelError `ENOENT` if all its handles were closed or garbage collected
   */
  static attach(id: number): MemoryRegion {
    const handle = native().regionAttach(id)
    if (typeof handle !== 'number') return new MemoryRegion(handle)
    throw kernelError(handle, 'attach', `region ${id}`, NO_HANDLE_HINT)
  }

  static #made(made: NativeRegion | Failure, args: string, kind: RegionKind): MemoryRegion {
    if (!Array.isArray(made)) return new MemoryRegion(made)
    const [errno, syscall] = made
    throw kernelError(errno, syscall, args, creationHint(errno, syscall, kind))
  }

  /** Whether this handle was closed. */
  get isClosed(): boolean {
    return this.#handle === undefined
  }

  /** @throws KernelError as madvise(2) does */
  madvise(advice: Advice, offset = 0, length = this.lengthBytes - offset): void {
    const result = native().regionMadvise(this.#open(), offset, length, advice)
    check(result, 'madvise', () => `${this.#at(offset)}, ${length}, MADV_${advice}`)
  }

  /**
   * Asks for transparent huge pages, or forbids them. A kernel without them returns `EINVAL` for
   * both, which is ignored.
   */
  adviseHugePages(advice: 'HUGEPAGE' | 'NOHUGEPAGE', length = this.lengthBytes): void {
    try {
      this.madvise(advice, 0, length)
    } catch (error) {
      if (!(error instanceof KernelError && error.code === 'EINVAL')) throw error
    }
  }

  /**
   * Makes pages missing again: `MADV_DONTNEED` for private memory, `MADV_REMOVE` for shared memory
   * and files. Dropping only the mapping would leave the page in the file, and the next access
   * would find it without a missing fault. Huge pages stay reserved for the region.
   *
   * @throws KernelError `ENOMEM` if another process took the huge pages meanwhile
   */
  discard(offset: number, length: number): void {
    const result = native().regionDiscard(this.#open(), offset, length)
    const advice = this.kind === 'anon' ? 'MADV_DONTNEED' : 'MADV_REMOVE'
    check(
      result,
      'madvise',
      () => `${this.#at(offset)}, ${length}, ${advice}`,
      (code) => (code === 'ENOMEM' ? creationHint(result, 'madvise', this.kind) : undefined),
    )
  }

  /**
   * Makes missing pages present, with zeros; the other pages keep their content. From here on a
   * huge page counts against `hugetlb.2MB.max` of the control group. A shortage is thus an error
   * here, not a SIGBUS at the first access. Kernels before Linux 5.14 lack `MADV_POPULATE_WRITE`:
   * there this call touches the pages, and a shortage raises SIGBUS in it.
   *
   * @throws KernelError `ENOMEM` if memory or huge pages are short; some pages may be present then
   */
  populate(offset: number, length: number): void {
    const result = native().regionMadvise(this.#open(), offset, length, 'POPULATE_WRITE')
    if (result >= 0) return
    const code = errnoName(result)
    if (code === 'EINVAL') {
      this.touch(offset, length, 'write') // before Linux 5.14
      return
    }
    // For huge pages, EFAULT means that an access would raise SIGBUS.
    const isShort = this.pageSizeBytes === HUGE_PAGE_BYTES && code === 'EFAULT'
    const errno = isShort ? -constants.errno.ENOMEM : result
    const hint = isShort ? hugePageShortage() : creationHint(errno, 'madvise', this.kind)
    throw kernelError(errno, 'madvise', `${this.#at(offset)}, ${length}, MADV_POPULATE_WRITE`, hint)
  }

  /** One byte for each 4096-byte page: 1 if it is resident, else 0. Does not fault. */
  mincore(offset: number, length: number): Uint8Array {
    const handle = this.#open()
    const out = new Uint8Array(Math.ceil(Math.min(length, this.lengthBytes) / 4096))
    const result = native().regionMincore(handle, offset, length, out)
    check(result, 'mincore', () => `${this.#at(offset)}, ${length}`)
    return out
  }

  /** Copies memory out. Blocks this thread on a missing page. */
  read(offset: number, target: Uint8Array): void {
    native().regionRead(this.#open(), offset, target)
  }

  /**
   * Copies bytes in. Blocks this thread on a missing or write-protected page.
   *
   * @throws KernelError `EACCES` if the region is a file opened for reading
   */
  write(offset: number, source: Uint8Array): void {
    const result = native().regionWrite(this.#open(), offset, source, false)
    check(result, 'write', () => this.#at(offset))
  }

  /**
   * Copies bytes in through the second mapping. This fills the file without a fault in the first
   * mapping, for {@link Userfaultfd.continue}. Dirty tracking does not see these writes.
   */
  writeAlias(offset: number, source: Uint8Array): void {
    const result = native().regionWrite(this.#open(), offset, source, true)
    check(result, 'write', () => this.#at(offset))
  }

  /** Accesses each host page of the range once, from user mode. A write keeps the content. */
  touch(offset: number, length: number, access: 'read' | 'write'): void {
    const result = native().regionTouch(this.#open(), offset, length, access === 'write')
    check(result, 'touch', () => `${this.#at(offset)}, ${length}, ${access}`)
  }

  /**
   * pread(2) into the region: a missing page causes a fault inside the kernel.
   *
   * @returns bytes read
   * @throws KernelError `EFAULT` if the userfaultfd handles user-mode faults only, or has `SIGBUS`
   */
  readFile(fd: number, position: number, offset: number, length: number): number {
    const result = native().regionReadFile(this.#open(), offset, length, fd, position)
    return check(
      result,
      'pread',
      () => `${fd}, ${this.#at(offset)}, ${length}, ${position}`,
      faultHint,
    )
  }

  /** pwrite(2) out of the region; see {@link MemoryRegion.readFile}. */
  writeFile(fd: number, position: number, offset: number, length: number): number {
    const result = native().regionWriteFile(this.#open(), offset, length, fd, position)
    return check(
      result,
      'pwrite',
      () => `${fd}, ${this.#at(offset)}, ${length}, ${position}`,
      faultHint,
    )
  }

  /**
   * One `PAGEMAP_SCAN`: finds ranges of pages by the state of their page table entries, as offsets
   * in the region. Continue from `next` until it is the end of the range. The kernel's own
   * `walk_end` is not safe to continue from; `next` is.
   *
   * @throws KernelError `ENOTTY` before Linux 6.7; `EPERM` with `requireAsync`
   */
  scan(options: ScanOptions): ScanResult {
    checkOptions(options, scanOptionNames)
    const { offset = 0, all = [], any = [], inverted = [], out, maxPages = 0 } = options
    const { length = this.lengthBytes - offset, report = [...all, ...any] } = options
    const call = new ScanCall()
    call.offset = offset
    call.length = length
    call.flags = scanFlags(options)
    call.maxPages = maxPages
    call.inverted = categoryMask(inverted)
    call.all = categoryMask(all)
    call.any = categoryMask(any)
    call.report = categoryMask(report)
    const count = native().pagemapScan(this.#open(), out, call.numbers)
    check(count, 'ioctl', () => `PAGEMAP_SCAN, ${this.#at(offset)}, ${length}`, scanHint)
    return { count, next: call.next }
  }

  /**
   * Lends the mapping to another addon (native/common/region_lease.h). It stays mapped while the addon
   * holds the lease; a lease that no addon took does not keep it mapped.
   */
  lease(): RegionLease {
    return native().regionLease(this.#open())
  }

  /**
   * Closes this handle; may be called twice. Closing the last handle unmaps the memory: unregister
   * it first, and make sure that no thread is blocked on its pages. With `EVENT_UNMAP`, unmapping
   * blocks until another thread reads the event.
   */
  close(): void {
    const handle = this.#handle
    this.#handle = undefined
    if (handle !== undefined) native().regionClose(handle)
  }

  [Symbol.dispose](): void {
    this.close()
  }

  #open(): NativeRegion {
    if (this.#handle === undefined) throw closedError(`memory region ${this.id}`)
    return this.#handle
  }

  #at(offset: number): string {
    return hex(this.address + offset)
  }

  static {
    regionHandle = (region) => region.#open()
  }
}

/** Checks the result of a scan over a whole region. */
export function checkScan(result: number, region: MemoryRegion): number {
  const range = () => `PAGEMAP_SCAN, ${hex(region.address)}, ${region.lengthBytes}`
  return check(result, 'ioctl', range, scanHint)
}

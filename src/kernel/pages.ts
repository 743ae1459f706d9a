/**
 * The loops over pages: one call for a batch, no object per page.
 *
 * Records are those of the stream's `ram` section. The receiving loops take complete records of the
 * plain kinds, `PAGE | CONTINUE` and `ZERO | CONTINUE` with fill 0, for pages inside the block, and
 * stop at anything else, which the decoder above them then takes or refuses.
 */
import { readlinkSync } from 'node:fs'
import { check, checkOptions } from './check.js'
import { native } from './load.js'
import type { Packing } from './native.js'
import { checkScan, regionHandle } from './memory-region.js'
import type { MemoryRegion } from './memory-region.js'
import { userfaultfdHandle } from './userfaultfd.js'
import type { Userfaultfd } from './userfaultfd.js'

export interface PackOptions {
  /** First target page. */
  from: number
  /** Behind the last target page. */
  to: number
  /**
   * Target pages per host page; default 1. With more, a host page is begun only if all of it fits,
   * and then finished; `from` and `to` must be borders of host pages.
   */
  hostPages?: number
  /** Stop behind so many target pages. Default: no limit. */
  maxPages?: number
  /** The block's name, if the first record has to carry it; the others say "same block". */
  name?: Uint8Array | undefined
}

/**
 * Takes set pages out of `bitmap` and writes their records to `out`.
 *
 * Reads the region's memory: a page missing here parks this thread. Of a file that was opened for
 * reading it reads the file, so that a page that cannot be read is an error and no SIGBUS.
 *
 * @param result - at least 3 long: next page to look at, pages, zero pages
 * @returns bytes written
 * @throws KernelError `EIO`, …: the file cannot be read; `ENODATA`: it was truncated. Pages before that
 *   one are no longer in `bitmap`, and their records are in `out`
 */
export function packPages(
  region: MemoryRegion,
  bitmap: Uint8Array,
  options: PackOptions,
  out: Uint8Array,
  outOffset: number,
  result: Float64Array,
): number {
  const packed = native().packPages(...packing(region, bitmap, options, out, outOffset, result))
  return checkRead(packed, region, result)
}

/** Of a file that is mapped for reading, pages are read by pread(2), not through the mapping. */
function checkRead(packed: number, region: MemoryRegion, result: Float64Array): number {
  const page = (): string => {
    const offset = (result[0] ?? 0) * 4096
    return `${pathOf(region.fd)}, 4096 bytes at offset ${offset}`
  }
  const hint = (code: string): string =>
    code === 'ENODATA' ? 'the file is shorter than its RAM: it was truncated' : 'it cannot be read'
  return check(packed, 'pread', page, hint)
}

/** For messages: what a descriptor of this process refers to. */
export function pathOf(fd: number): string {
  try {
    return readlinkSync(`/proc/self/fd/${fd}`)
  } catch {
    return `fd ${fd}`
  }
}

function packing(
  region: MemoryRegion,
  bitmap: Uint8Array,
  options: PackOptions,
  out: Uint8Array,
  outOffset: number,
  result: Float64Array,
): Packing {
  const { from, to, hostPages = 1, maxPages = Number.MAX_SAFE_INTEGER, name } = options
  const handle = regionHandle(region)
  return [handle, bitmap, from, to, hostPages, maxPages, name, out, outOffset, result]
}

export interface SendOptions extends PackOptions {
  /** A stream socket. */
  fd: number
  /** Pages in a piece: so many are packed, then sent. */
  piecePages: number
}

/**
 * {@link packPages}, of which all but the last piece is sent at once, past `out`, while the cache
 * holds it. What stands before `outOffset` goes first. Never waits: stops early where the socket
 * takes no more, or something can be read from it.
 *
 * @param result - at least 6 long: next page to look at, pages, zero pages, bytes sent, where in `out`
 *   the rest begins, 1 where it stopped early
 * @returns where in `out` the rest ends; an error of the socket is met by whoever sends it
 * @throws KernelError as {@link packPages}
 */
export function sendPages(
  region: MemoryRegion,
  bitmap: Uint8Array,
  options: SendOptions,
  out: Uint8Array,
  outOffset: number,
  result: Float64Array,
): number {
  const packed = packing(region, bitmap, options, out, outOffset, result)
  const end = native().sendPages(...packed, options.fd, options.piecePages)
  return checkRead(end, region, result)
}

/**
 * Precopy: writes records into memory. A zero page that never held anything is not touched.
 *
 * @param usedLength - of the block, whole pages, not more than the region
 * @param received - page set
 * @param zeroed - page set: received, and known to be zeros
 * @param bytes - records in `[start, end)`
 * @param result - at least 2 long: pages, zero pages
 * @returns bytes consumed
 * @throws KernelError `EACCES` for a region that may not be written
 */
export function loadRecords(
  region: MemoryRegion,
  usedLength: number,
  received: Uint8Array,
  zeroed: Uint8Array,
  bytes: Uint8Array,
  start: number,
  end: number,
  result: Float64Array,
): number {
  const consumed = native().loadRecords(
    regionHandle(region),
    usedLength,
    received,
    zeroed,
    bytes,
    start,
    end,
    result,
  )
  return check(consumed, 'write', () => `region ${region.id}`)
}

/** Sixth number of {@link placeRecords}: why it stopped. */
export const PlaceStop = {
  /** The records that it takes are used up. */
  NONE: 0,
  /** The next page is marked as received. */
  DUPLICATE: 1,
  /** The kernel refused: errno in the third number. EAGAIN: an event must be read first. */
  IOCTL: 2,
} as const

/**
 * Postcopy, host page = target page: places records by UFFDIO_COPY and UFFDIO_ZEROPAGE, one ioctl
 * for a run of pages, and wakes who waits for them.
 *
 * `bytes` is scratch: what is consumed may be overwritten. It stops before the record that cannot be
 * placed; that one and all behind it are as they were.
 *
 * @param received - page set; marked once placed
 * @param result - at least 6 long: pages, zero pages, errno (0 or positive), offset of the page that
 *   was in the way, ioctls, {@link PlaceStop}
 * @returns bytes consumed
 */
export function placeRecords(
  uffd: Userfaultfd,
  region: MemoryRegion,
  usedLength: number,
  received: Uint8Array,
  bytes: Uint8Array,
  start: number,
  end: number,
  result: Float64Array,
): number {
  return native().placeRecords(
    userfaultfdHandle(uffd),
    regionHandle(region),
    usedLength,
    received,
    bytes,
    start,
    end,
    result,
  )
}

/**
 * Like {@link loadRecords}, into a sparse file at the block's offsets.
 *
 * @param result - at least 4 long: pages, zero pages, errno (0 or positive), offset of the page that
 *   was not written
 * @returns bytes consumed
 */
export function storeRecords(
  fd: number,
  usedLength: number,
  received: Uint8Array,
  zeroed: Uint8Array,
  bytes: Uint8Array,
  start: number,
  end: number,
  result: Float64Array,
): number {
  return native().storeRecords(fd, usedLength, received, zeroed, bytes, start, end, result)
}

/** Where a host page that is larger than a target page comes together. */
export interface HostPageAssembly {
  /** Content, valid once complete. */
  staging: Uint8Array
  /**
   * Host page or -1, target pages seen, of these not zero, then a bit for each one seen. Complete
   * when the second number is the number of target pages; set the first to -1 to begin the next.
   */
  state: Int32Array
}

export function createHostPageAssembly(hostPageBytes: number): HostPageAssembly {
  const hostPages = hostPageBytes / 4096
  const state = new Int32Array(3 + Math.ceil(hostPages / 32))
  state[0] = -1
  return { staging: new Uint8Array(hostPageBytes), state }
}

/** Third number of {@link assembleRecords}: why it stopped. */
export const AssembleStop = {
  /** The host page is complete, or the records that it takes are used up. */
  NONE: 0,
  /** The next record is for another host page, while this one is incomplete. */
  OTHER_HOST_PAGE: 1,
  /** The next target page was received, or seen in this host page already. */
  DUPLICATE: 2,
} as const

/**
 * Postcopy with larger host pages: gathers the records of one host page, in any order. Stops behind
 * the one that completes it.
 *
 * @param staging - one host page, see {@link HostPageAssembly}
 * @param state - see {@link HostPageAssembly}
 * @param received - page set, read only: mark the host page when it is placed
 * @param result - at least 3 long: pages, zero pages, {@link AssembleStop}
 * @returns bytes consumed
 */
export function assembleRecords(
  staging: Uint8Array,
  state: Int32Array,
  usedLength: number,
  received: Uint8Array,
  bytes: Uint8Array,
  start: number,
  end: number,
  result: Float64Array,
): number {
  return native().assembleRecords(staging, state, usedLength, received, bytes, start, end, result)
}

/**
 * Adds the pages of `region` written since it was last armed to `bitmap`.
 *
 * The region must be registered for write-protect with `WP_ASYNC`. Before the first arming every
 * page counts as written, but for hugetlb pages that nobody touched. Not seen: pages discarded in
 * shared memory, and writes by another mapping or by pwrite(2) on the file.
 *
 * @param bitmap - target pages: a 2 MiB page sets 512 bits
 * @param options - `arm`: write-protect what was found, in the same step. `lengthBytes`: look at so
 *   many bytes from the start of the region; default: all
 * @returns how many pages were not in `bitmap` before
 * @throws KernelError `ENOTTY` before Linux 6.7, `EPERM` without `WP_ASYNC`
 * @see PAGEMAP_SCAN, Documentation/admin-guide/mm/pagemap.rst
 */
export function scanDirty(
  region: MemoryRegion,
  bitmap: Uint8Array,
  options: { arm: boolean; lengthBytes?: number },
): number {
  checkOptions(options, ['arm', 'lengthBytes'])
  const { arm, lengthBytes = region.lengthBytes } = options
  return checkScan(
    native().pagemapScanDirty(regionHandle(region), lengthBytes, bitmap, arm),
    region,
  )
}

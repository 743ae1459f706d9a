/**
 * Loops over pages: one call for a batch, no object per page.
 *
 * Records are those of the stream's `ram` section. The receiving loops take complete records of two
 * kinds, `PAGE | CONTINUE` and `ZERO | CONTINUE` with fill 0, for pages inside the block. They stop
 * at any other record, which the decoder then handles or rejects.
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
  /** End: the target page after the last one. */
  to: number
  /**
   * Target pages per host page; default 1. A larger host page is packed only if all of it fits.
   * `from` and `to` must be aligned to host pages.
   */
  hostPages?: number
  /** Stop after this many target pages. Default: no limit. */
  maxPages?: number
  /** The block's name, if the first record has to carry it. The other records have `CONTINUE`. */
  name?: Uint8Array | undefined
}

/**
 * Takes set pages out of `bitmap` and writes their records to `out`.
 *
 * Reads the region's memory, so a missing page blocks this thread. If the region is a read-only
 * file, it reads the file with pread(2) instead: an unreadable page is then an error, not a SIGBUS.
 *
 * @param result - at least 3 long: next page to look at, pages, zero pages
 * @returns bytes written
 * @throws KernelError `EIO`, …: the file cannot be read; `ENODATA`: it was truncated. Earlier pages
 *   are no longer in `bitmap`, and their records are in `out`
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

/** Throws for a failed pread(2), which reads the pages of a region that is a read-only file. */
function checkRead(packed: number, region: MemoryRegion, result: Float64Array): number {
  const page = (): string => {
    const offset = (result[0] ?? 0) * 4096
    return `${pathOf(region.fd)}, 4096 bytes at offset ${offset}`
  }
  const hint = (code: string): string =>
    code === 'ENODATA' ? 'the file is shorter than its RAM: it was truncated' : 'it cannot be read'
  return check(packed, 'pread', page, hint)
}

/** The path that a descriptor of this process refers to, for messages. */
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
  /** Pages in a piece; each piece is packed and then sent. */
  piecePages: number
}

/**
 * Packs pages as {@link packPages} does, and sends every piece but the last at once, while the CPU
 * cache still holds it. Bytes of `out` before `outOffset` are sent first. Never waits: stops early
 * if the socket takes no more bytes or is readable.
 *
 * @param result - at least 6 long: next page to look at, pages, zero pages, bytes sent, start of
 *   the unsent rest in `out`, 1 if it stopped early
 * @returns end of the unsent rest in `out`. A socket error is not reported here: sending the rest
 *   fails with it
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
 * Precopy: writes records into memory. A zero page that was not received before is not touched,
 * except in huge pages.
 *
 * @param usedLength - of the block, whole pages, not more than the region
 * @param received - page set
 * @param zeroed - page set: received, and known to be zeros
 * @param bytes - records in `[start, end)`
 * @param result - at least 2 long: pages, zero pages
 * @returns bytes consumed
 * @throws KernelError `EACCES` if the region is not writable
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
  /** No complete record of the accepted kinds is left. */
  NONE: 0,
  /** The next page is marked as received. */
  DUPLICATE: 1,
  /** The kernel refused: errno in the third number. EAGAIN: an event must be read first. */
  IOCTL: 2,
} as const

/**
 * Postcopy, host page = target page: places records with UFFDIO_COPY and UFFDIO_ZEROPAGE, one ioctl
 * for each run of pages, and wakes the threads that wait for them.
 *
 * Consumed bytes of `bytes` may be overwritten. It stops before a record that cannot be placed;
 * that record and all later ones keep their bytes.
 *
 * @param received - page set; marked once placed
 * @param result - at least 6 long: pages, zero pages, errno (0 or positive), offset of the page at
 *   which it stopped, ioctls, {@link PlaceStop}
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
 * Like {@link loadRecords}, but writes into a sparse file, at the block's offsets.
 *
 * @param result - at least 4 long: pages, zero pages, errno (0 or positive), offset of the page
 *   that was not written
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

/** Gathers the target pages of one larger host page. */
export interface HostPageAssembly {
  /** Content of the host page, valid once it is complete. */
  staging: Uint8Array
  /**
   * Index of the host page or -1, number of target pages seen, number of those that are not zero,
   * then one bit for each target page seen. The host page is complete when all its target pages
   * were seen. Set the first number to -1 to begin the next one.
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
  /** The host page is complete, or no complete record of the accepted kinds is left. */
  NONE: 0,
  /** The next record is for another host page, while this one is incomplete. */
  OTHER_HOST_PAGE: 1,
  /** The next target page was received already, or seen in this host page already. */
  DUPLICATE: 2,
} as const

/**
 * Postcopy with larger host pages: gathers the records of one host page, in any order. Stops after
 * the record that completes it.
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
 * page counts as written, except hugetlb pages that were never accessed. It does not see discards
 * in shared memory, writes through another mapping, or pwrite(2) to the file.
 *
 * @param bitmap - target pages: a 2 MiB page sets 512 bits
 * @param options - `arm`: write-protect the found pages in the same step. `lengthBytes`: bytes to
 *   scan from the start of the region; default: all
 * @returns how many of the pages were not in `bitmap` before
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

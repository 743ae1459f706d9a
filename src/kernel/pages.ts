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
import { Assembly, PageFileRun } from './native.js'
import type {
  AssembleCall,
  LoadCall,
  NativePageFile,
  NativeRegion,
  PackCall,
  PlaceCall,
  SendCall,
  StoreCall,
} from './native.js'
import { PageFile, pageFileHandle } from './page-file.js'
import { checkScan, regionHandle } from './memory-region.js'
import type { MemoryRegion } from './memory-region.js'
import { userfaultfdHandle } from './userfaultfd.js'
import type { Userfaultfd } from './userfaultfd.js'

/** Where the pages of a RAM block are. */
export type PageMemory = MemoryRegion | PageFile

/**
 * Takes set pages out of `bitmap` and writes their records to `out`.
 *
 * Reads the region's memory, so a missing page blocks this thread; or reads the files.
 *
 * @param name - the block's name, if the first record has to carry it. The other records have
 *   `CONTINUE`
 * @param call - arguments: target pages `[from, to)`; `hostPages`, target pages per host page: one
 *   larger than 1 is packed only if all of it fits, and `from` and `to` must be aligned to it;
 *   `maxPages`, target pages after which to stop; `outOffset`; `wait`: 0 to stop at a page of a
 *   file that is not in the page cache, 1 to read it from disk. Results: `nextPage` to look at,
 *   `normalPages`, `zeroPages`; `isWaiting`: 1 if it stopped at `nextPage`, which is to be read
 *   from disk
 * @returns bytes written
 * @throws KernelError `EIO`, …: a file cannot be read; `ENODATA`: it was truncated. Earlier pages
 *   are no longer in `bitmap`, and their records are in `out`
 */
export function packPages(
  pages: PageMemory,
  bitmap: Uint8Array,
  name: Uint8Array | undefined,
  out: Uint8Array,
  call: PackCall,
): number {
  return checkRead(
    native().packPages(handleOf(pages), bitmap, name, out, call.numbers),
    pages,
    call,
  )
}

function handleOf(pages: PageMemory): NativeRegion | NativePageFile {
  return pages instanceof PageFile ? pageFileHandle(pages) : regionHandle(pages)
}

/** Throws for a file that cannot be read. */
function checkRead(packed: number, pages: PageMemory, call: PackCall | SendCall): number {
  if (packed >= 0 || !(pages instanceof PageFile)) return packed
  const run = new Float64Array(PageFileRun.stride)
  const { nextPage } = call
  pages.find(nextPage, run)
  const path = pathOf(run[PageFileRun.file] ?? -1)
  const page = (): string => `${path}, 4096 bytes at offset ${run[PageFileRun.offset]}`
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

/**
 * Packs pages as {@link packPages} does, and sends every piece but the last at once, while the CPU
 * cache still holds it. Bytes of `out` before `outOffset` are sent first. Never waits: stops early
 * if the socket takes no more bytes or is readable.
 *
 * @param call - as of {@link packPages}. More arguments: `fd` of a stream socket; `piecePages`, the
 *   pages in a piece. More results: `sentBytes`; `unsentFrom`, the start of the unsent rest in
 *   `out`; `interrupted`, 1 if it stopped early
 * @returns end of the unsent rest in `out`. A socket error is not reported here: sending the rest
 *   fails with it
 * @throws KernelError as {@link packPages}
 */
export function sendPages(
  pages: PageMemory,
  bitmap: Uint8Array,
  name: Uint8Array | undefined,
  out: Uint8Array,
  call: SendCall,
): number {
  return checkRead(
    native().sendPages(handleOf(pages), bitmap, name, out, call.numbers),
    pages,
    call,
  )
}

/**
 * Precopy: writes records into memory. A zero page that was not received before is not touched,
 * except in huge pages.
 *
 * @param received - page set
 * @param zeroed - page set: received, and known to be zeros
 * @param bytes - has the records
 * @param call - arguments: `usedLength` of the block, whole pages, not more than the region; the
 *   range `[start, end)` of the records in `bytes`. Results: `normalPages`, `zeroPages`
 * @returns bytes consumed
 * @throws KernelError `EACCES` if the region is not writable
 */
export function loadRecords(
  region: MemoryRegion,
  received: Uint8Array,
  zeroed: Uint8Array,
  bytes: Uint8Array,
  call: LoadCall,
): number {
  const consumed = native().loadRecords(regionHandle(region), received, zeroed, bytes, call.numbers)
  return check(consumed, 'write', () => `region ${region.id}`)
}

/** The result `stop` of {@link placeRecords}: why it stopped. */
export const PlaceStop = {
  /** No complete record of the accepted kinds is left. */
  NONE: 0,
  /** The next page is marked as received. */
  DUPLICATE: 1,
  /** The kernel refused, with `errno`. EAGAIN: an event must be read first. */
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
 * @param call - arguments as of {@link loadRecords}. Results: `normalPages`, `zeroPages`; `errno` (0
 *   or positive); `offset` of the page at which it stopped; `ioctls`; `stop` ({@link PlaceStop})
 * @returns bytes consumed
 */
export function placeRecords(
  uffd: Userfaultfd,
  region: MemoryRegion,
  received: Uint8Array,
  bytes: Uint8Array,
  call: PlaceCall,
): number {
  return native().placeRecords(
    userfaultfdHandle(uffd),
    regionHandle(region),
    received,
    bytes,
    call.numbers,
  )
}

/**
 * Like {@link loadRecords}, but writes into a sparse file, at the block's offsets.
 *
 * @param call - arguments as of {@link loadRecords}. Results: `normalPages`, `zeroPages`; `errno` (0
 *   or positive); `offset` of the page that was not written
 * @returns bytes consumed
 */
export function storeRecords(
  fd: number,
  received: Uint8Array,
  zeroed: Uint8Array,
  bytes: Uint8Array,
  call: StoreCall,
): number {
  return native().storeRecords(fd, received, zeroed, bytes, call.numbers)
}

/** Gathers the target pages of one larger host page. */
export interface HostPageAssembly {
  /** Content of the host page, valid once it is complete. */
  staging: Uint8Array
  /**
   * {@link Assembly}: `hostPage`, the index of the host page or -1; `seenPages`, the number of target
   * pages seen. One bit for each target page seen follows. The host page is complete when all its
   * target pages were seen. Set `hostPage` to -1 to begin the next one.
   */
  state: Int32Array
}

export function createHostPageAssembly(hostPageBytes: number): HostPageAssembly {
  const hostPages = hostPageBytes / 4096
  const state = new Int32Array(Assembly.stride + Math.ceil(hostPages / 32))
  state[Assembly.hostPage] = -1
  return { staging: new Uint8Array(hostPageBytes), state }
}

/** The result `stop` of {@link assembleRecords}: why it stopped. */
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
 * @param assembly - staging has the length of one host page
 * @param received - page set, read only: mark the host page when it is placed
 * @param call - arguments as of {@link loadRecords}. Results: `normalPages`, `zeroPages`; `stop`
 *   ({@link AssembleStop})
 * @returns bytes consumed
 */
export function assembleRecords(
  { staging, state }: HostPageAssembly,
  received: Uint8Array,
  bytes: Uint8Array,
  call: AssembleCall,
): number {
  return native().assembleRecords(staging, state, received, bytes, call.numbers)
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

/** What /proc/PID/pagemap reports about pages, raw. */
import { closeSync, openSync, readSync } from 'node:fs'
import { addressOf, syscall } from '../host/index.js'

/** Bits of a pagemap entry, see Documentation/admin-guide/mm/pagemap.rst. */
const bits = { writeProtected: 57n, file: 61n, swapped: 62n, present: 63n } as const
type EntryBit = keyof typeof bits

const PAGEMAP_SCAN = 0xc0606610
export const Category = { WRITTEN: 2, PRESENT: 8, SWAPPED: 16, HUGE: 64 } as const
export const ScanFlag = { WP_MATCHING: 1, CHECK_WPASYNC: 2 } as const

/** One bit, 0 or 1, from the entry of each of `pages` pages of 4096 bytes. */
export function pageBits(
  bit: EntryBit,
  address: number,
  pages: number,
  pid: number | 'self' = 'self',
): number[] {
  const fd = openSync(`/proc/${pid}/pagemap`, 'r')
  try {
    const entries = new BigUint64Array(pages)
    readSync(fd, new Uint8Array(entries.buffer), 0, pages * 8, (address / 4096) * 8)
    return Array.from(entries, (entry) => Number((entry >> bits[bit]) & 1n))
  } finally {
    closeSync(fd)
  }
}

export interface ScanRequest {
  start: number
  end: number
  /** Categories that a page must all have; default WRITTEN. */
  all?: number
  flags?: number
  /** Capacity of the answer in ranges; default 0, which only arms. */
  ranges?: number
}

export interface ScanArguments {
  readonly request: BigUint64Array
  /** Start, end and categories of each range. */
  readonly ranges: BigUint64Array
}

/** The argument of PAGEMAP_SCAN, also for a call by `step.syscall`. */
export function scanArguments(wanted: ScanRequest): ScanArguments {
  const { start, end, all = Category.WRITTEN, flags = 0, ranges: length = 0 } = wanted
  const ranges = new BigUint64Array(length * 3)
  const vector = length === 0 ? 0 : addressOf(ranges)
  const request = BigUint64Array.from(
    [96, flags, start, end, 0, vector, length, 0, 0, all, 0, all].map(BigInt),
  )
  return { request, ranges }
}

/**
 * Opens this process' pagemap for PAGEMAP_SCAN; the descriptor lives as long as the experiment.
 */
export function openPageMap(): number {
  return openSync('/proc/self/pagemap', 'r')
}

/**
 * Calls PAGEMAP_SCAN on this thread. Returns the number of ranges or `-errno`, and where it ended.
 */
export function scanPages(
  fd: number,
  { request }: ScanArguments,
): { count: number; walkEnd: number } {
  const count = syscall('ioctl', fd, PAGEMAP_SCAN, request)
  return { count, walkEnd: Number(request[4]) }
}

export { PAGEMAP_SCAN }

/** How many pages a scan found. */
export function pagesFound({ ranges }: ScanArguments, count: number): number {
  let pages = 0
  for (let range = 0; range < count; range += 1) {
    pages += Number((ranges[range * 3 + 1] ?? 0n) - (ranges[range * 3] ?? 0n)) / 4096
  }
  return pages
}

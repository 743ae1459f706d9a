/** What /proc/PID/pagemap says of pages, raw. */
import { closeSync, openSync, readSync } from 'node:fs'
import { addressOf, syscall } from '../host/index.js'

/** Bits of an entry, Documentation/admin-guide/mm/pagemap.rst. */
const bits = { writeProtected: 57n, file: 61n, swapped: 62n, present: 63n } as const
type EntryBit = keyof typeof bits

const PAGEMAP_SCAN = 0xc0606610
export const Category = { WRITTEN: 2, PRESENT: 8, SWAPPED: 16, HUGE: 64 } as const
export const ScanFlag = { WP_MATCHING: 1, CHECK_WPASYNC: 2 } as const

/** One bit of the entries of `pages` pages of 4096 bytes, each 0 or 1. */
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
  /** Ranges that fit into the answer; default 0: none, for arming alone. */
  ranges?: number
}

export interface ScanArguments {
  readonly request: BigUint64Array
  /** start, end, categories of each range. */
  readonly ranges: BigUint64Array
}

/** The argument of PAGEMAP_SCAN, for a call by `step.syscall` too. */
export function scanArguments(wanted: ScanRequest): ScanArguments {
  const { start, end, all = Category.WRITTEN, flags = 0, ranges: length = 0 } = wanted
  const ranges = new BigUint64Array(length * 3)
  const vector = length === 0 ? 0 : addressOf(ranges)
  const request = BigUint64Array.from(
    [96, flags, start, end, 0, vector, length, 0, 0, all, 0, all].map(BigInt),
  )
  return { request, ranges }
}

/** A descriptor of this process' pagemap, for PAGEMAP_SCAN; lives as long as the experiment. */
export function openPageMap(): number {
  return openSync('/proc/self/pagemap', 'r')
}

/** PAGEMAP_SCAN on this thread: number of ranges or `-errno`, and where the kernel says it stopped. */
export function scanPages(
  fd: number,
  { request }: ScanArguments,
): { count: number; walkEnd: number } {
  const count = syscall('ioctl', fd, PAGEMAP_SCAN, request)
  return { count, walkEnd: Number(request[4]) }
}

export { PAGEMAP_SCAN }

/** Pages that a scan found. */
export function pagesFound({ ranges }: ScanArguments, count: number): number {
  let pages = 0
  for (let range = 0; range < count; range += 1) {
    pages += Number((ranges[range * 3 + 1] ?? 0n) - (ranges[range * 3] ?? 0n)) / 4096
  }
  return pages
}

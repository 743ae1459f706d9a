/** Names for `PAGEMAP_SCAN` (Linux 6.7), Documentation/admin-guide/mm/pagemap.rst. */
import { rowOf } from './layout.js'

/** `PAGE_IS_…`. `WRITTEN` means "not write-protected": every page is, before the first arming. */
const categories = {
  WPALLOWED: 1,
  WRITTEN: 2,
  FILE: 4,
  PRESENT: 8,
  SWAPPED: 16,
  PFNZERO: 32,
  HUGE: 64,
  SOFT_DIRTY: 128,
} as const

export type PageCategory = keyof typeof categories

/** Fields of a range in the output of {@link MemoryRegion.scan}; categories: {@link categoriesOf}. */
export const PageRange = rowOf('pageRange', ['start', 'end', 'categories'])

/** Numbers per range in the output of {@link MemoryRegion.scan}. */
export const SCAN_STRIDE = PageRange.stride

/** `PM_SCAN_WP_MATCHING` and `PM_SCAN_CHECK_WPASYNC` */
export const ScanFlag = { writeProtect: 1, requireAsync: 2 } as const

/** What to look for; see {@link MemoryRegion.scan}. An omitted condition matches every page. */
export interface ScanOptions {
  /** First byte, a multiple of the page size; default 0. */
  offset?: number
  /** Bytes from `offset`; default to the end of the region. */
  length?: number
  /** A page must have all of these categories. */
  all?: readonly PageCategory[]
  /** A page must have at least one of these categories. */
  any?: readonly PageCategory[]
  /** Categories whose value is inverted for `all` and `any`. */
  inverted?: readonly PageCategory[]
  /**
   * Categories to report; adjacent pages with the same ones form one range. Default: `all` and
   * `any`.
   */
  report?: readonly PageCategory[]
  /** Write-protect matching pages in the same step (`PM_SCAN_WP_MATCHING`). Default false. */
  writeProtect?: boolean
  /**
   * Fail with `EPERM` if the range is not registered with `WP_ASYNC` (`PM_SCAN_CHECK_WPASYNC`).
   * Default false.
   */
  requireAsync?: boolean
  /** Stop after this many matching pages; default 0, no limit. */
  maxPages?: number
  /** Takes the ranges ({@link PageRange}), {@link SCAN_STRIDE} numbers each. */
  out: Float64Array
}

export const scanOptionNames: readonly string[] = [
  'offset',
  'length',
  'all',
  'any',
  'inverted',
  'report',
  'writeProtect',
  'requireAsync',
  'maxPages',
  'out',
]

/** What one scan found. */
export interface ScanResult {
  /** Number of ranges in `out`. */
  count: number
  /** Offset at which to continue; the end of the range if this scan reached it. */
  next: number
}

export function categoryMask(names: readonly PageCategory[]): number {
  return names.reduce((mask, name) => {
    if (!Object.hasOwn(categories, name)) throw new TypeError(`unknown page category "${name}"`)
    return mask + (Math.floor(mask / categories[name]) % 2 === 0 ? categories[name] : 0)
  }, 0)
}

/** The names in the categories of a {@link PageRange}. */
export function categoriesOf(mask: number): ReadonlySet<PageCategory> {
  const names = Object.keys(categories) as PageCategory[]
  return new Set(names.filter((name) => Math.floor(mask / categories[name]) % 2 === 1))
}

export function scanFlags(options: ScanOptions): number {
  const { writeProtect = false, requireAsync = false } = options
  return (writeProtect ? ScanFlag.writeProtect : 0) | (requireAsync ? ScanFlag.requireAsync : 0)
}

/** Names for `PAGEMAP_SCAN` (Linux 6.7), Documentation/admin-guide/mm/pagemap.rst. */

/** `PAGE_IS_…`. `WRITTEN` is "not write-protected": before the first arming that is every page. */
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

/** Numbers per range in the output of {@link MemoryRegion.scan}: start, end, categories. */
export const SCAN_STRIDE = 3

/** What to look for; see {@link MemoryRegion.scan}. Everything that is left out matches. */
export interface ScanOptions {
  /** First byte, a multiple of the page size; default 0. */
  offset?: number
  /** Bytes from `offset`; default to the end of the region. */
  length?: number
  /** Categories that a page must all have. */
  all?: readonly PageCategory[]
  /** Categories of which a page must have one. */
  any?: readonly PageCategory[]
  /** Categories of `all` and `any` that count as their opposite. */
  inverted?: readonly PageCategory[]
  /** Categories to report; adjacent pages with the same ones make one range. Default: `all` and `any`. */
  report?: readonly PageCategory[]
  /** Write-protect what matches, in the same step (`PM_SCAN_WP_MATCHING`). Default false. */
  writeProtect?: boolean
  /** Fail with `EPERM` where the range is not registered with `WP_ASYNC` (`PM_SCAN_CHECK_WPASYNC`). Default false. */
  requireAsync?: boolean
  /** Stop behind so many matching pages; default 0, no limit. */
  maxPages?: number
  /** Where ranges go: {@link SCAN_STRIDE} numbers each and one more at the end, see `next`. */
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
  /** Ranges in `out`. */
  count: number
  /** Where the next scan goes on; the end of the range if this one reached it. */
  next: number
}

export function categoryMask(names: readonly PageCategory[]): number {
  return names.reduce((mask, name) => {
    if (!Object.hasOwn(categories, name)) throw new TypeError(`unknown page category "${name}"`)
    return mask + (Math.floor(mask / categories[name]) % 2 === 0 ? categories[name] : 0)
  }, 0)
}

/** The names in the third number of a range. */
export function categoriesOf(mask: number): ReadonlySet<PageCategory> {
  const names = Object.keys(categories) as PageCategory[]
  return new Set(names.filter((name) => Math.floor(mask / categories[name]) % 2 === 1))
}

export function scanFlags(options: ScanOptions): number {
  return (options.writeProtect === true ? 1 : 0) + (options.requireAsync === true ? 2 : 0)
}

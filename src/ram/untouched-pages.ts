/**
 * Finds pages of memory that are zero because they were never written, from their page tables: an anonymous page that is neither present nor swapped out, or is the zero page; and a hole
 * of a memfd. A page that the kernel is just moving counts as swapped out.
 */
import { KernelError } from '../errors.js'
import {
  categoriesOf,
  fileExtents,
  type MemoryRegion,
  PageRange,
  SCAN_STRIDE,
} from '../kernel/index.js'
import { TARGET_PAGE_SIZE } from '../units.js'
import { PageBitmap } from './page-bitmap.js'
import type { RamBlock } from './ram-block.js'

/** Shorter runs count as data: they cost little, and of a memfd each needs a second look. */
const SHORTEST_RUN = 64
/** Each run is looked at again while the guest is stopped. */
const MOST_RUNS = 1024
/** After so many ranges, the rest of the block counts as data: looking at it takes too long. */
const MOST_RANGES = 16_384
const RANGES_A_CALL = 1024

type Run = readonly [first: number, end: number]

/**
 * Write-protects all pages of an anonymous block, which is registered with `WP_ASYNC`, and finds the
 * untouched ones in the same step: the dirty log reports every later write to them.
 *
 * @returns the untouched pages
 */
export function armUntouched({ region, lengthBytes, pageCount }: RamBlock): PageBitmap {
  const untouched = new PageBitmap(pageCount)
  if (region.kind !== 'anon') return untouched
  const out = new Float64Array(RANGES_A_CALL * SCAN_STRIDE)
  let ranges = 0
  for (let offset = 0; offset < lengthBytes && ranges < MOST_RANGES;) {
    const { count, next } = region.scan({
      offset,
      length: lengthBytes - offset,
      all: ['WRITTEN'],
      report: ['PRESENT', 'SWAPPED', 'PFNZERO'],
      writeProtect: true,
      requireAsync: true,
      out,
    })
    for (let at = 0; at < count * SCAN_STRIDE; at += SCAN_STRIDE) {
      const found = categoriesOf(out[at + PageRange.categories] ?? 0)
      const isNowhere = !found.has('SWAPPED') && !found.has('PRESENT')
      if (!isNowhere && !found.has('PFNZERO')) continue
      const run = toRun(out[at + PageRange.start] ?? 0, out[at + PageRange.end] ?? 0)
      if (run[1] - run[0] >= SHORTEST_RUN) untouched.setRange(...run)
    }
    ranges += count
    offset = next
  }
  return untouched
}

/** The untouched pages of a memfd, or of the memory of a guest that does not run. */
export class UntouchedPages {
  readonly #block: RamBlock
  readonly #data: PageBitmap
  readonly #runs: Run[] = []

  /**
   * Clears the bits of pages that are zero now. The guest may run, so {@link confirm} has to follow.
   *
   * @param data - all bits are set
   */
  static find(block: RamBlock, data: PageBitmap): UntouchedPages {
    return new UntouchedPages(block, data)
  }

  private constructor(block: RamBlock, data: PageBitmap) {
    this.#block = block
    this.#data = data
    const found = this.#written([0, block.pageCount])
    if (found === undefined) return
    for (const run of gaps(found, block.pageCount)) {
      if (this.#runs.length === MOST_RUNS) return
      if (run[1] - run[0] < SHORTEST_RUN) continue
      this.#runs.push(run)
      data.clearRange(run[0], run[1])
    }
  }

  /** Call when the guest is stopped: sets the bits of pages that were written since. */
  confirm(): void {
    for (const run of this.#runs) {
      for (const [first, end] of this.#written(run) ?? [run]) this.#data.setRange(first, end)
    }
  }

  /** The pages of a range that may have been written; undefined if that is not known. */
  #written([first, end]: Run): Run[] | undefined {
    const { region } = this.#block
    const range = [first * TARGET_PAGE_SIZE, end * TARGET_PAGE_SIZE] as const
    switch (region.kind) {
      case 'anon':
        return limited(presentRanges(region, ...range), range[1])
      case 'memfd':
        return limited(fileExtents(region.fd, ...range), range[1])
      default:
        return undefined
    }
  }
}

/** @param end - bytes; after too many ranges, everything up to there counts as written */
function limited(ranges: Iterable<readonly [start: number, end: number]>, end: number): Run[] {
  const runs: Run[] = []
  for (const [from, to] of ranges) {
    if (runs.length === MOST_RANGES) return [...runs, toRun(from, end)]
    runs.push(toRun(from, to))
  }
  return runs
}

/** All of the range before Linux 6.7, which has no PAGEMAP_SCAN. */
function* presentRanges(
  region: MemoryRegion,
  from: number,
  to: number,
): Generator<readonly [start: number, end: number]> {
  const out = new Float64Array(RANGES_A_CALL * SCAN_STRIDE)
  for (let offset = from; offset < to;) {
    const found = scanPresent(region, offset, to, out)
    if (found === undefined) {
      yield [offset, to]
      return
    }
    for (let at = 0; at < found.count * SCAN_STRIDE; at += SCAN_STRIDE) {
      yield [out[at + PageRange.start] ?? 0, out[at + PageRange.end] ?? 0]
    }
    offset = found.next
  }
}

function scanPresent(
  region: MemoryRegion,
  offset: number,
  end: number,
  out: Float64Array,
): { readonly count: number; readonly next: number } | undefined {
  try {
    return region.scan({
      offset,
      length: end - offset,
      all: ['PFNZERO'],
      inverted: ['PFNZERO'],
      any: ['PRESENT', 'SWAPPED'],
      report: [],
      out,
    })
  } catch (error) {
    if (error instanceof KernelError && error.code === 'ENOTTY') return undefined
    throw error
  }
}

function toRun(startBytes: number, endBytes: number): Run {
  return [Math.floor(startBytes / TARGET_PAGE_SIZE), Math.ceil(endBytes / TARGET_PAGE_SIZE)]
}

/** The pages of `[0, pageCount)` in none of the runs, which ascend. */
function* gaps(runs: readonly Run[], pageCount: number): Generator<Run> {
  let from = 0
  for (const [first, end] of runs) {
    if (first > from) yield [from, first]
    from = Math.max(from, end)
  }
  if (pageCount > from) yield [from, pageCount]
}

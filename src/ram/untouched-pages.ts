/**
 * Finds pages of memory that are zero because they were never written, by what the kernel knows of
 * them: an anonymous page that is not present or is the zero page, and a hole of a memfd.
 */
import { readFileSync } from 'node:fs'
import { KernelError } from '../errors.js'
import { fileExtents, type MemoryRegion, PageRange, SCAN_STRIDE } from '../kernel/index.js'
import { TARGET_PAGE_SIZE } from '../units.js'
import type { PageBitmap } from './page-bitmap.js'
import type { RamBlock } from './ram-block.js'

/** Shorter runs are not worth a second look. */
const SHORTEST_RUN = 64
/** Each run is looked at again while the guest is stopped. */
const MOST_RUNS = 1024
const RANGES_A_CALL = 256

type Run = readonly [first: number, end: number]

export class UntouchedPages {
  readonly #block: RamBlock
  readonly #data: PageBitmap
  readonly #runs: Run[] = []
  readonly #hasSwap = hostHasSwap()

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
    const isSure = this.#hasSwap === hostHasSwap()
    for (const run of this.#runs) {
      const found = isSure ? this.#written(run) : [run]
      for (const [first, end] of found ?? [run]) this.#data.setRange(first, end)
    }
  }

  /** The pages of a range that may have been written; undefined if the kernel does not tell. */
  #written(range: Run): Run[] | undefined {
    const { region } = this.#block
    switch (region.kind) {
      case 'anon':
        return presentPages(region, range, this.#hasSwap)
      case 'memfd':
        return filePages(region, range)
      default:
        return undefined
    }
  }
}

function filePages(region: MemoryRegion, [first, end]: Run): Run[] {
  const found = fileExtents(region.fd, first * TARGET_PAGE_SIZE, end * TARGET_PAGE_SIZE)
  return Array.from(found, ([from, to]) => toRun(from, to))
}

function presentPages(
  region: MemoryRegion,
  [first, end]: Run,
  hasSwap: boolean,
): Run[] | undefined {
  const runs: Run[] = []
  const out = new Float64Array(RANGES_A_CALL * SCAN_STRIDE)
  try {
    for (let offset = first * TARGET_PAGE_SIZE; offset < end * TARGET_PAGE_SIZE;) {
      const { count, next } = region.scan({
        offset,
        length: end * TARGET_PAGE_SIZE - offset,
        all: ['PFNZERO'],
        inverted: ['PFNZERO'],
        // The markers by which pages that are not present are write-protected count as swapped, too.
        any: hasSwap ? ['PRESENT', 'SWAPPED'] : ['PRESENT'],
        report: [],
        out,
      })
      for (let at = 0; at < count * SCAN_STRIDE; at += SCAN_STRIDE) {
        runs.push(toRun(out[at + PageRange.start] ?? 0, out[at + PageRange.end] ?? 0))
      }
      offset = next
    }
    return runs
  } catch (error) {
    // Before Linux 6.7.
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

/** The first line of /proc/swaps is a heading. */
function hostHasSwap(): boolean {
  try {
    return readFileSync('/proc/swaps', 'utf8').trimEnd().split('\n').length > 1
  } catch {
    return true
  }
}

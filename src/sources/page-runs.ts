/** From where pages are in a stream to where they are in files. */
import { RAM_PAGE_RECORD_BYTES } from '../stream/index.js'
import { writeSync } from 'node:fs'
import { MemoryRegion } from '../kernel/index.js'
import { TARGET_PAGE_SIZE } from '../units.js'
import type { MappedPages } from './block-list.js'
import { PageRow } from './page-table.js'
import { type Qcow2State, TOO_SCATTERED } from './qcow2-state.js'
import { SavedFileError } from './saved-error.js'

/**
 * Columns of a run: page `p` of a run is at offset + (p - first) * stride of a file, in one piece.
 * Runs ascend and do not overlap. A page in no run is zero.
 */
export const SavedRun = {
  stride: 5,
  firstPage: 0,
  pageCount: 1,
  file: 2,
  offset: 3,
  strideBytes: 4,
} as const

/** Index of the saved file in `fds`, and of the memory for pages that are not in one piece there. */
const SAVED_FILE = 0
const SCRATCH_FILE = 1
/** Index of the first file of shared memory. */
export const FIRST_SHARED_FILE = 2
const MOST_SCRATCH_BYTES = 64 * 2 ** 20

/** The whole block is one run of a mapped-ram file; its bitmap says which pages count. */
export function mappedRuns(pageCount: number, { pagesOffset }: MappedPages): Float64Array {
  return Float64Array.of(0, pageCount, SAVED_FILE, pagesOffset, TARGET_PAGE_SIZE)
}

/** The whole block is one run of a file of its own. @param file - its index in `fds` */
export function ownFileRuns(pageCount: number, file: number): Float64Array {
  return Float64Array.of(0, pageCount, file, 0, TARGET_PAGE_SIZE)
}

/** Runs of a stream whose offsets are those of the file. */
export function fileRuns(rows: Float64Array): Float64Array {
  const count = rows.length / PageRow.stride
  const runs = new Float64Array(count * SavedRun.stride)
  for (let index = 0; index < count; index += 1) {
    const from = index * PageRow.stride
    const to = index * SavedRun.stride
    runs[to + SavedRun.firstPage] = rows[from + PageRow.firstPage] ?? 0
    runs[to + SavedRun.pageCount] = rows[from + PageRow.pageCount] ?? 0
    runs[to + SavedRun.file] = SAVED_FILE
    runs[to + SavedRun.offset] = rows[from + PageRow.offset] ?? 0
    runs[to + SavedRun.strideBytes] = RAM_PAGE_RECORD_BYTES
  }
  return runs
}

/** Memory for pages that the clusters of an image cut in pieces. */
export class Scratch {
  #region: MemoryRegion | undefined
  #lengthBytes = 0

  /** -1 while no page is there. */
  get fd(): number {
    return this.#region?.fd ?? -1
  }

  /** @returns the offset of the page */
  add(page: Uint8Array, path: string): number {
    const offset = this.#lengthBytes
    if (offset + page.length > MOST_SCRATCH_BYTES) {
      throw new SavedFileError('refused', { path }, TOO_SCATTERED)
    }
    // Its memory is taken when it is written.
    this.#region ??= MemoryRegion.create({ kind: 'memfd', lengthBytes: MOST_SCRATCH_BYTES })
    writeSync(this.#region.fd, page, 0, page.length, offset)
    this.#lengthBytes += page.length
    return offset
  }

  close(): void {
    this.#region?.close()
    this.#region = undefined
  }
}

/** Runs of a state in clusters; a page that is not in one piece is copied to `scratch`. */
export async function stateRuns(
  rows: Float64Array,
  state: Qcow2State,
  scratch: Scratch,
): Promise<Float64Array> {
  const runs: number[] = []
  const page = new Uint8Array(TARGET_PAGE_SIZE)
  for (let at = 0; at < rows.length; at += PageRow.stride) {
    let first = rows[at + PageRow.firstPage] ?? 0
    let left = rows[at + PageRow.pageCount] ?? 0
    let offset = rows[at + PageRow.offset] ?? 0
    while (left > 0) {
      const { fileOffset, lengthBytes } = state.extentAt(offset)
      const whole = Math.floor((lengthBytes - TARGET_PAGE_SIZE) / RAM_PAGE_RECORD_BYTES) + 1
      const count = Math.min(left, Math.max(whole, 0))
      if (count > 0) runs.push(first, count, SAVED_FILE, fileOffset, RAM_PAGE_RECORD_BYTES)
      else {
        await state.read(page, offset)
        runs.push(first, 1, SCRATCH_FILE, scratch.add(page, state.path), TARGET_PAGE_SIZE)
      }
      first += Math.max(count, 1)
      left -= Math.max(count, 1)
      offset += Math.max(count, 1) * RAM_PAGE_RECORD_BYTES
    }
  }
  return Float64Array.from(runs)
}

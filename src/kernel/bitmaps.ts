/**
 * Page sets: page `i` is bit `i & 7` of byte `i >> 3`. One thread writes a set; others may read it,
 * if it lies on a `SharedArrayBuffer`. Ranges are `[from, to)`, in pages.
 */
import { native } from './load.js'

/**
 * Runs of set pages, as pairs start, end (exclusive).
 *
 * @param out - room for `out.length / 2` runs; if all of it is used, go on from the last end
 * @returns the number of runs
 */
export function findRuns(bitmap: Uint8Array, from: number, to: number, out: Float64Array): number {
  return native().bitmapRuns(bitmap, from, to, out)
}

/** The first set page, or -1. */
export function findNext(bitmap: Uint8Array, from: number, to: number): number {
  return native().bitmapFindNext(bitmap, from, to)
}

export function countBits(bitmap: Uint8Array, from: number, to: number): number {
  return native().bitmapCount(bitmap, from, to)
}

/** @returns how many pages changed */
export function setBits(bitmap: Uint8Array, from: number, to: number): number {
  return native().bitmapFill(bitmap, from, to, true)
}

/** @returns how many pages changed */
export function clearBits(bitmap: Uint8Array, from: number, to: number): number {
  return native().bitmapFill(bitmap, from, to, false)
}

/**
 * Sets all target pages of each host page that has one set.
 *
 * @param pages - length of the set
 * @param hostPages - target pages per host page
 * @returns how many pages changed
 */
export function roundOut(bitmap: Uint8Array, pages: number, hostPages: number): number {
  return native().bitmapRoundOut(bitmap, pages, hostPages)
}

/**
 * Changes `bitmap` page by page: `add` sets what is set in `other`, `keep` clears what is not,
 * `remove` clears what is. Pages that only one of them has stay as they are.
 */
export function mergeBits(
  bitmap: Uint8Array,
  other: Uint8Array,
  how: 'add' | 'keep' | 'remove',
): void {
  native().bitmapMerge(bitmap, other, how)
}

/** Whether all bytes are 0; stops at the first that is not. */
export function isZero(bytes: Uint8Array): boolean {
  return native().bytesAreZero(bytes)
}

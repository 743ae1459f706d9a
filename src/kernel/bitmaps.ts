/**
 * Page sets: page `i` is bit `i & 7` of byte `i >> 3`. One thread writes a set; other threads may
 * read it if its buffer is a `SharedArrayBuffer`. Ranges are `[from, to)`, in pages.
 */
import { native } from './load.js'

/**
 * Finds runs of set pages.
 *
 * @param out - takes the runs ({@link PageRun}, `end` exclusive); if it is full, continue from the
 *   last end
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
 * Changes `bitmap` by `other`. `add` sets the pages that are set in `other`, `keep` clears those
 * that are clear there, `remove` clears those that are set there. Pages beyond the shorter bitmap
 * do not change.
 */
export function mergeBits(
  bitmap: Uint8Array,
  other: Uint8Array,
  how: 'add' | 'keep' | 'remove',
): void {
  native().bitmapMerge(bitmap, other, how)
}

/** Whether all bytes are 0; stops at the first nonzero byte. */
export function isZero(bytes: Uint8Array): boolean {
  return native().bytesAreZero(bytes)
}

/**
 * CRC-32C, by the processor's instruction where it has one.
 *
 * The value of a page is the remainder of CRC-32C without its two inversions, so that a page of zeros
 * has the value 0. Values are u32, little endian.
 */
import { native } from './load.js'

export const PAGE_VALUE_BYTES = 4

/**
 * Sets the values of the pages of records, as `storeRecords` takes them.
 *
 * @param values - of the pages from `firstPage` on
 * @param start - of the first record in `bytes`; `end` is the end of the last one
 * @returns where it stopped: at `end`, or at a record of a page that is not in `values`
 */
export function checksumRecords(
  values: Uint8Array,
  firstPage: number,
  bytes: Uint8Array,
  start: number,
  end: number,
): number {
  return native().checksumRecords(values, firstPage, bytes, start, end)
}

/** Sets the values of whole pages. */
export function checksumPages(bytes: Uint8Array, values: Uint8Array): void {
  native().checksumPages(bytes, values)
}

/**
 * @param before - the CRC-32C of the bytes before these; 0 for none
 * @param options - `portable`: without the instruction; the result is the same
 */
export function crc32c(
  before: number,
  bytes: Uint8Array,
  { portable = false }: { portable?: boolean } = {},
): number {
  return native().crc32c(before, bytes, portable)
}

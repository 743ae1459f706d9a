/**
 * A checksum over the pages that a source leaves out because they are zero. It is the value of the
 * last PING of the stream: QEMU answers it, and our own destination compares it with the pages that
 * it misses. Without it, a lost page would be taken for a zero page.
 */
import { crc32 } from 'node:zlib'
import type { PageBitmap } from './page-bitmap.js'

/** Never one of QEMU's own ping values, which are small. */
const HIGH_BIT = 0x8000_0000

/** @param blocks - by block, in the order of the stream: the pages that are left out */
export function missingChecksum(blocks: Iterable<PageBitmap>): number {
  let sum = 0
  for (const { bytes } of blocks) sum = crc32(bytes, sum)
  return (sum | HIGH_BIT) >>> 0
}

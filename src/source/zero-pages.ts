/**
 * Zero pages are not sent in postcopy unless they are requested. They were discarded at the
 * destination, which stops watching its memory at the end of the stream: they then read as zeros.
 */
import type { SentBlock } from './block.js'

/**
 * Takes the zero pages out of those that are owed. A larger host page is zero only if all of it is.
 *
 * @returns how many target pages
 */
export function leaveOutZeroPages(blocks: readonly SentBlock[]): number {
  let count = 0
  for (const { block, dirty, data, leftOut } of blocks) {
    leftOut.bytes.set(dirty.bytes)
    leftOut.remove(data)
    leftOut.roundIn(block.hostPages)
    dirty.remove(leftOut)
    count += leftOut.count()
  }
  return count
}

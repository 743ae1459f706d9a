/**
 * Limits the discarded pages: one discard has a few bytes, and may name all of RAM. A source names
 * a page again only if the guest wrote it again before the switchover.
 */
import { PeerError } from '../errors.js'

/** How often all of RAM may be discarded. QEMU does it once, our own source at most five times. */
const MOST_TIMES = 64

/** @throws PeerError `ERR_PEER_DISCARD` for more pages than any real source discards */
export function checkDiscards(discardedPages: number, ramPages: number): void {
  if (discardedPages <= MOST_TIMES * ramPages) return
  throw new PeerError(
    'ERR_PEER_DISCARD',
    `the source has discarded ${discardedPages} pages of ${ramPages}, more than ${MOST_TIMES} times each`,
  )
}

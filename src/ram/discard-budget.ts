/**
 * Discards cost a few bytes each and may name all of RAM. A source names a page again only where
 * it was written again before the switch.
 */
import { PeerError } from '../errors.js'

/** How often all of RAM may be named. QEMU does it once, a source of ours five times at most. */
const MOST_TIMES = 64

/** @throws PeerError `ERR_PEER_DISCARD` where nobody needs that many */
export function checkDiscards(discardedPages: number, ramPages: number): void {
  if (discardedPages <= MOST_TIMES * ramPages) return
  throw new PeerError(
    'ERR_PEER_DISCARD',
    `the source has discarded ${discardedPages} pages of ${ramPages}, more than ${MOST_TIMES} times each`,
  )
}

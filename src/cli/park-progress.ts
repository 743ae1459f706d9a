/** How far a park is, in words. */
import { type Counters, now } from '../migration/index.js'
import { formatByteSize } from '../units.js'

/** @returns nothing before the first bytes */
export function parkProgress(counters: Readonly<Counters>): string {
  if (counters.startedAt === 0) return ''
  const { transferredBytes, normalPages, zeroPages } = counters
  const rate = transferredBytes / Math.max(0.001, (now() - counters.startedAt) / 1000)
  return `${formatByteSize(transferredBytes)} (${formatByteSize(rate)}/s), ${normalPages} pages, ${zeroPages} zero`
}

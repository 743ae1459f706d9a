/** Precopy's rounds over the dirty bitmap, while the guest runs. */
import type { Counters, Parameters } from '../migration/index.js'
import { TARGET_PAGE_SIZE } from '../units.js'
import type { SourceLink } from './link.js'
import { BATCH_PAGES, type RamSender } from './ram-sender.js'

/** Pages per batch under a bandwidth limit, which is enforced in these steps. */
const LIMITED_BATCH_PAGES = 128

export interface PrecopyOptions {
  readonly ram: RamSender
  readonly counters: Counters
  /** The current parameters; they may change. */
  readonly parameters: () => Parameters
  /** Marks the pages written since the last call. */
  readonly syncDirtyPages: () => void
  /** Without this capability precopy never ends in postcopy. */
  readonly mayPostcopy: boolean
  /** Whether postcopy was asked for. */
  readonly postcopyRequested: () => boolean
  /** Throws the reason if the migration cannot continue. */
  readonly check: () => void
}

/**
 * Sends pages until few enough remain to stop the guest, or until postcopy is requested by command
 * or by a parameter.
 */
export async function precopy(
  link: SourceLink,
  options: PrecopyOptions,
): Promise<'precopy' | 'postcopy'> {
  const { ram, counters, parameters, check } = options
  const startedAt = performance.now()
  for (let round = 1; ; round += 1) {
    ram.beginRound()
    const roundAt = performance.now()
    for (;;) {
      check()
      const { 'x-postcopy-after-ms': afterMs, 'x-postcopy-after-rounds': afterRounds } =
        parameters()
      const isDue =
        options.postcopyRequested() ||
        (afterMs > 0 && performance.now() - startedAt >= afterMs) ||
        (afterRounds > 0 && round > afterRounds)
      if (options.mayPostcopy && isDue && ram.remainingPages > 0) return 'postcopy'
      const limit = parameters()['max-bandwidth']
      if (!(await link.pace(limit))) continue
      const sent =
        limit === 0
          ? await link.sendSweep((out, direct) => ram.packPart(out, BATCH_PAGES, direct))
          : await link.sendBatch((out) => ram.packPart(out, LIMITED_BATCH_PAGES))
      if (sent === 0) break
      counters.precopyBytes += sent
      link.limit(sent)
    }
    options.syncDirtyPages()
    const remaining = ram.recount()
    counters.dirtyPagesRate = (remaining * 1000) / (performance.now() - roundAt)
    const downtimeBytes = (link.bytesPerSecond * parameters()['downtime-limit']) / 1000
    if (remaining * TARGET_PAGE_SIZE <= downtimeBytes) return 'precopy'
  }
}

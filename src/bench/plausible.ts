/** Detects impossible figures of a rival; the run that gave them is repeated. */
import { PostcopyError } from '../errors.js'

const MOST_RUNS = 3

/** Durations of a migration and of its parts, in ms. */
export interface MigrationTimes {
  readonly totalMs: number
  readonly downtimeMs: number
}

/**
 * Says why figures are impossible; undefined if they are possible. QEMU 7.2 once reported a
 * downtime of hours for a migration of a second.
 */
export function implausible({ totalMs, downtimeMs }: MigrationTimes): string | undefined {
  if (!(totalMs > 0)) return `a total time of ${totalMs} ms`
  if (!(downtimeMs >= 0)) return `a downtime of ${downtimeMs} ms`
  return downtimeMs > totalMs
    ? `a downtime of ${downtimeMs} ms in a migration of ${totalMs} ms`
    : undefined
}

/**
 * Measures until the figures are possible.
 *
 * @throws PostcopyError `ERR_BENCH` if they are impossible every time
 */
export async function measurePlausible<T extends MigrationTimes>(
  measure: () => Promise<T>,
): Promise<T> {
  let reason: string | undefined
  for (let run = 0; run < MOST_RUNS; run += 1) {
    const result = await measure()
    reason = implausible(result)
    if (reason === undefined) return result
  }
  throw new PostcopyError('ERR_BENCH', `${MOST_RUNS} runs gave impossible values: ${reason ?? ''}`)
}

import { setTimeout as sleep } from 'node:timers/promises'

/**
 * Polls for a change made by native threads, so that no thread has to wait for it.
 *
 * @param timeoutMs - may be Infinity
 * @returns false if it did not happen in time
 */
export async function until(
  happened: () => boolean,
  intervalMs: number,
  timeoutMs = Infinity,
): Promise<boolean> {
  const deadline = performance.now() + timeoutMs
  while (!happened()) {
    if (performance.now() >= deadline) return false
    await sleep(intervalMs)
  }
  return true
}

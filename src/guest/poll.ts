import { setTimeout as sleep } from 'node:timers/promises'

/**
 * Waits for something that native threads do, without a thread that waits in turn.
 *
 * @param timeoutMs - may be Infinity
 * @returns false when it has not happened in time
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

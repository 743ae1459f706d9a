/** Limits on the resources of one monitor client, for HMP and QMP. */
import type { Writable } from 'node:stream'

export const MAX_CLIENTS = 64
/** One line of HMP, one value of QMP. The longest useful command has a few hundred bytes. */
export const MAX_REQUEST_BYTES = 1024 * 1024

/**
 * Resolves when a client has read what it was sent, or has disconnected. Until then none of its
 * further requests is processed, so that answers do not pile up.
 */
export async function drained(output: Writable): Promise<void> {
  if (!output.writableNeedDrain) return
  await new Promise<void>((resolve) => {
    const done = (): void => {
      output.off('drain', done).off('close', done)
      resolve()
    }
    output.on('drain', done).on('close', done)
  })
}

import { bundledEntry } from '../kernel/internal.js'
import { startAhead } from '../migration/index.js'

/** Starts the worker of the next {@link Source} ahead, while its caller finds out what to send. */
export function prepareSource(): void {
  startAhead(bundledEntry('source/worker'), 'source')
}

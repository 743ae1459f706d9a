/** The worker's side of a {@link WorkerThread}. */
import { parentPort, workerData } from 'node:worker_threads'

/** The first message of every worker, which its {@link WorkerThread} takes for itself. */
export const READY = 'ready'

/** What a {@link WorkerThread} gives its worker. */
export interface WorkerInput {
  readonly data: unknown
  /** One Int32: 1 once the worker may be terminated. */
  readonly ready: SharedArrayBuffer
}

/** What the worker was given. */
export function workerInput(): unknown {
  return (workerData as WorkerInput).data
}

/**
 * Runs `main` in the next turn of the event loop: all modules have been evaluated then, and the
 * owner may terminate the worker. A module that waits or works while it is evaluated (`await` at
 * its top level) is not safe to terminate.
 */
export function runWorker(main: () => void): void {
  setImmediate(() => {
    const ready = new Int32Array((workerData as WorkerInput).ready)
    Atomics.store(ready, 0, 1)
    Atomics.notify(ready, 0)
    parentPort?.postMessage(READY)
    main()
  })
}

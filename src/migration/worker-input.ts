/** The worker's side of a {@link WorkerThread}. */
import { parentPort, workerData } from 'node:worker_threads'

/** The first message of every worker; its {@link WorkerThread} handles it. */
export const READY = 'ready'

/** What a {@link WorkerThread} passes to its worker. */
export interface WorkerInput {
  readonly data: unknown
  /** One Int32: 1 once the worker may be terminated. */
  readonly ready: SharedArrayBuffer
}

/** The `data` that was passed to the worker. */
export function workerInput(): unknown {
  return (workerData as WorkerInput).data
}

/**
 * Runs `main` in the next turn of the event loop. All modules have been evaluated by then, so the
 * owner may terminate the worker. A worker is not safe to terminate while one of its modules is
 * being evaluated, for example in a top-level `await`.
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

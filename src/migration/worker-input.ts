/** The worker's side of a {@link WorkerThread}. */
import { type MessagePort, parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads'

/** The first message of every worker; its {@link WorkerThread} handles it. */
export const READY = 'ready'

/** What a {@link WorkerThread} passes to its worker. */
export interface WorkerInput {
  /** Undefined for a worker that is started before its data are known. */
  readonly data: unknown
  /** Where the data of such a worker arrive. */
  readonly port?: MessagePort
  /** Int32s: see {@link Flag}. */
  readonly ready: SharedArrayBuffer
}

/** Indices of what both threads know of a worker's start. */
export const Flag = {
  /** 1 once the worker may be terminated. */
  READY: 0,
  /** 1 once a worker that was started ahead has its data, or will get none. */
  GIVEN: 1,
} as const

export function createFlags(): Int32Array<SharedArrayBuffer> {
  return new Int32Array(new SharedArrayBuffer(2 * Int32Array.BYTES_PER_ELEMENT))
}

/**
 * The `data` that was passed to the worker. Waits for it if the worker was started ahead; call it
 * after all modules are loaded.
 *
 * @throws Error which ends the worker, if the process ends before there is work for it
 */
export function workerInput(): unknown {
  const { data, port, ready } = workerData as WorkerInput
  if (port === undefined) return data
  const flags = new Int32Array(ready)
  Atomics.wait(flags, Flag.GIVEN, 0)
  const received = receiveMessageOnPort(port) as { message: unknown } | undefined
  port.close()
  if (received !== undefined) return received.message
  announceStart(flags)
  throw new Error('the process ends before this worker was needed')
}

/**
 * Runs `main` in the next turn of the event loop. All modules have been evaluated by then, so the
 * owner may terminate the worker. A worker is not safe to terminate while one of its modules is
 * being evaluated, for example in a top-level `await`.
 */
export function runWorker(main: () => void): void {
  setImmediate(() => {
    announceStart(new Int32Array((workerData as WorkerInput).ready))
    parentPort?.postMessage(READY)
    main()
  })
}

function announceStart(flags: Int32Array): void {
  Atomics.store(flags, Flag.READY, 1)
  Atomics.notify(flags, Flag.READY)
}

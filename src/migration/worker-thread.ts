/**
 * A worker as its owner thread sees it. Every worker of this package uses this class.
 *
 * Terminating a worker while Node evaluates its modules can abort the whole process, with every
 * guest in it, because a check in Node's module loader fails. So a worker is terminated only after
 * it has announced its start.
 */
import { Worker, type WorkerOptions } from 'node:worker_threads'
import { READY, type WorkerInput } from './worker-input.js'

export interface WorkerEvents<Notice> {
  /** Not called after {@link WorkerThread.terminate}. */
  notice(notice: Notice): void
  /** The worker has ended, by itself or by an uncaught error. Called once, as the last event. */
  ended(cause: unknown): void
}

/** How long `process.exit()` waits for a worker to start. */
const EXIT_WAIT_MS = 10_000

/** The flags of the workers that have not started yet. */
const starting = new Set<Int32Array>()

/** `process.exit()` terminates all workers, and must not do so while one starts. */
function awaitStarting(): void {
  for (const ready of starting) Atomics.wait(ready, 0, 0, EXIT_WAIT_MS)
}

export class WorkerThread<Request, Notice> {
  /** Resolves when the worker has ended, whatever the reason. */
  readonly ended: Promise<void>
  readonly #worker: Worker
  readonly #started: Promise<void>
  #isTerminated = false

  /**
   * @param url - of its module, which calls `workerInput()`
   * @param data - what `workerInput()` returns there
   * @param options - `trackUnmanagedFds`: whether descriptors from `fs.open` are closed when the
   *   worker ends; default true
   */
  constructor(
    url: URL,
    name: string,
    data: unknown,
    events: WorkerEvents<Notice>,
    options: Pick<WorkerOptions, 'trackUnmanagedFds'> = {},
  ) {
    const ready = new Int32Array(new SharedArrayBuffer(4))
    const workerData: WorkerInput = { data, ready: ready.buffer }
    this.#worker = startWorker(url, { workerData, name, ...options })
    if (starting.size === 0) process.on('exit', awaitStarting)
    starting.add(ready)
    let cause: unknown
    let announceStart: () => void = () => undefined
    this.#started = new Promise((resolve) => {
      announceStart = () => {
        starting.delete(ready)
        if (starting.size === 0) process.off('exit', awaitStarting)
        resolve()
      }
    })
    this.#worker.on('message', (notice: Notice | typeof READY) => {
      if (notice === READY) announceStart()
      else if (!this.#isTerminated) events.notice(notice)
    })
    this.#worker.on('error', (error) => {
      cause = error
    })
    this.ended = new Promise((resolve) => {
      this.#worker.on('exit', () => {
        announceStart()
        resolve()
        events.ended(cause)
      })
    })
  }

  post(request: Request): void {
    this.#worker.postMessage(request)
  }

  /**
   * Terminates the worker, once it has started. Resolves when it has ended. May be called twice.
   */
  async terminate(): Promise<void> {
    this.#isTerminated = true
    await this.#started
    await this.#worker.terminate()
    await this.ended
  }
}

interface StartOptions {
  readonly workerData: WorkerInput
  readonly name: string
}

/**
 * A worker inherits the flags of the process. `--input-type` is set if the program is standard
 * input or an argument (`node --input-type=module -e CODE`), and would make the worker reject its
 * file.
 */
function startWorker(url: URL, options: StartOptions): Worker {
  const flags = process.execArgv
  const execArgv = flags.filter(
    (flag, index) => !flag.startsWith('--input-type') && flags[index - 1] !== '--input-type',
  )
  if (execArgv.length === flags.length) return new Worker(url, options)
  try {
    return new Worker(url, { ...options, execArgv })
  } catch (error) {
    // Node rejects V8 and per-process flags in `execArgv`; they apply to all threads anyway.
    if (!isInvalidFlags(error)) throw error
    const allowed = execArgv.filter((flag) => !error.message.includes(flag))
    return new Worker(url, { ...options, execArgv: allowed })
  }
}

function isInvalidFlags(error: unknown): error is Error {
  return error instanceof Error && 'code' in error && error.code === 'ERR_WORKER_INVALID_EXEC_ARGV'
}

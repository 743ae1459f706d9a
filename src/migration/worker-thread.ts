/**
 * A worker as the thread that owns it sees it. Every worker of this package is one.
 *
 * Terminating a worker while Node evaluates its modules can abort the whole process (a check in
 * Node's module loader fails), with every guest in it. So a worker is terminated only after it has
 * announced that it has started.
 */
import { Worker, type WorkerOptions } from 'node:worker_threads'
import { READY, type WorkerInput } from './worker-input.js'

export interface WorkerEvents<Notice> {
  /** Not called after {@link WorkerThread.terminate}. */
  notice(notice: Notice): void
  /** It has ended, by itself or by an error that it did not catch. Called once, and last. */
  ended(cause: unknown): void
}

/** How long `process.exit()` waits for a worker to start. */
const EXIT_WAIT_MS = 10_000

/** The flags of the workers that have not started yet. */
const starting = new Set<Int32Array>()

/** `process.exit()` terminates all workers: it must not do so while one starts. */
function awaitStarting(): void {
  for (const ready of starting) Atomics.wait(ready, 0, 0, EXIT_WAIT_MS)
}

export class WorkerThread<Request, Notice> {
  /** Resolves when it has ended, whatever the reason. */
  readonly ended: Promise<void>
  readonly #worker: Worker
  readonly #started: Promise<void>
  #isTerminated = false

  /**
   * @param url - of its module, which calls `workerInput()`
   * @param data - what `workerInput()` returns there
   * @param options - `trackUnmanagedFds`: whether what `fs.open` has opened there is closed at its end; default true
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

  /** Ends it, after it has started. Resolves when it has ended. May be called twice. */
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
 * A worker inherits the flags of the process. `--input-type` would make it refuse its file: it is
 * there where the program is standard input or an argument (`node --input-type=module -e CODE`).
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
    // Flags of V8 and of the process hold for all its threads, but may not be named here.
    if (!isInvalidFlags(error)) throw error
    const allowed = execArgv.filter((flag) => !error.message.includes(flag))
    return new Worker(url, { ...options, execArgv: allowed })
  }
}

function isInvalidFlags(error: unknown): error is Error {
  return error instanceof Error && 'code' in error && error.code === 'ERR_WORKER_INVALID_EXEC_ARGV'
}

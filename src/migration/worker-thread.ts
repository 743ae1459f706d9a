/**
 * A worker as its owner thread sees it. Every worker of this package uses this class.
 *
 * Terminating a worker while Node evaluates its modules can abort the whole process, with every
 * guest in it, because a check in Node's module loader fails. So a worker is terminated only after
 * it has announced its start.
 */
import type { Worker, WorkerOptions } from 'node:worker_threads'
import { startWorker, takeStarted } from './start-worker.js'
import { READY } from './worker-input.js'

export interface WorkerEvents<Notice> {
  /** Not called after {@link WorkerThread.terminate}. */
  notice(notice: Notice): void
  /** The worker has ended, by itself or by an uncaught error. Called once, as the last event. */
  ended(cause: unknown): void
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
    const { worker, started } =
      takeStarted(url, data) ?? startWorker(url, { data, name, ...options })
    this.#worker = worker
    let cause: unknown
    let announceStart: () => void = () => undefined
    this.#started = new Promise((resolve) => {
      announceStart = () => {
        started()
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

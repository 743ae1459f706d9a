/** A worker of one end of a migration, as the main thread sees it. */
import { Worker } from 'node:worker_threads'

export interface WorkerEvents<Notice> {
  notice(notice: Notice): void
  /** It has ended, by itself or by an error that it did not catch. Called once, and last. */
  ended(cause: unknown): void
}

export class WorkerThread<Request, Notice> {
  /** Resolves when it has ended, whatever the reason. */
  readonly ended: Promise<void>
  readonly #worker: Worker

  /** @param workerData - what the entry at `url` expects */
  constructor(url: URL, name: string, workerData: unknown, events: WorkerEvents<Notice>) {
    this.#worker = new Worker(url, { workerData, name })
    let cause: unknown
    this.#worker.on('message', (notice: Notice) => events.notice(notice))
    this.#worker.on('error', (error) => {
      cause = error
    })
    this.ended = new Promise((resolve) => {
      this.#worker.on('exit', () => {
        resolve()
        events.ended(cause)
      })
    })
  }

  post(request: Request): void {
    this.#worker.postMessage(request)
  }

  async terminate(): Promise<void> {
    await this.#worker.terminate()
  }
}

import { isPlaintext, parseUri } from '../net/index.js'
import { Migration } from './migration.js'
import type { Parameters } from './options.js'
import { isAtRest } from './states.js'
import type { WorkerThread } from './worker-thread.js'

export interface MigrationEndOptions {
  /** Undefined if there is no connection, for example when a file is read. */
  readonly uri: string | undefined
  readonly parameters: Parameters
}

/**
 * One end of a migration as its user sees it, and the worker that runs it: the common part of a
 * source, a destination and a park.
 *
 * @typeParam Request - messages to the worker
 * @typeParam Notice - messages from the worker
 */
export abstract class MigrationEnd<Request, Notice> extends Migration {
  #parameters: Parameters
  #uri: string | undefined
  #worker: WorkerThread<Request, Notice> | undefined

  protected constructor({ uri, parameters }: MigrationEndOptions) {
    super()
    this.#uri = uri
    this.#parameters = parameters
  }

  override get isPlaintext(): boolean {
    return this.#uri !== undefined && isPlaintext(parseUri(this.#uri), this.#parameters)
  }

  protected get parameters(): Readonly<Parameters> {
    return this.#parameters
  }

  protected set parameters(parameters: Parameters) {
    this.#parameters = parameters
  }

  /** The URI to which it connects or on which it listens. */
  protected get currentUri(): string | undefined {
    return this.#uri
  }

  protected setUri(uri: string): void {
    this.#uri = uri
  }

  protected get worker(): WorkerThread<Request, Notice> | undefined {
    return this.#worker
  }

  protected setWorker(worker: WorkerThread<Request, Notice>): void {
    this.#worker = worker
  }

  protected post(request: Request): void {
    this.#worker?.post(request)
  }

  /** Asked after a worker has ended: whether it ended before the migration was at rest. */
  protected get isWorkerLost(): boolean {
    return !isAtRest(this.state)
  }

  /** @throws the reason for which the owner has ended the migration */
  protected refuseEnded(): void {
    if (this.endedByOwner !== undefined) throw this.endedByOwner
  }
}

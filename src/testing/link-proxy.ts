/** A network between two ends of a migration that a test can slow down, silence and cut. */
import { PostcopyError } from '../errors.js'
import { parseUri } from '../net/index.js'
import { WorkerThread } from '../migration/index.js'
import type { LinkNotice, LinkRequest, LinkState, LinkWorkerData } from './link-protocol.js'

export interface LinkOptions {
  /** Address to listen on; default 127.0.0.1. */
  host?: string
  /**
   * How many bytes of the connecting side a connection lets through
   * before it is cut; default: all.
   */
  cutAfterBytes?: number
  /** Delay of every byte in milliseconds, each way; default 0. */
  latencyMs?: number
}

export interface LinkChange extends Omit<LinkOptions, 'host'> {
  /** The target of further connections: `tcp:HOST:PORT` or `unix:PATH`. */
  target?: string
  /** A silent link: nothing passes in either direction, and nothing is closed. */
  isSilent?: boolean
  /**
   * The target's bytes are read and dropped; bytes to the target pass. `after-first`: what the
   * target sends first passes.
   */
  dropsAnswers?: boolean | 'after-first'
}

/**
 * A TCP proxy on a thread of its own: a thread that is parked on a page fault could not forward
 * the page that it waits for.
 */
export class LinkProxy {
  /** Where to connect instead of the target, `tcp:HOST:PORT`. */
  readonly uri: string
  readonly #worker: WorkerThread<LinkRequest, LinkNotice>
  readonly #cuts: Int32Array
  /** What to call when the request with that id is done. */
  readonly #pending: Map<number, () => void>
  #lastId = 0

  /** @param target - `tcp:HOST:PORT` or `unix:PATH`, to which connections are forwarded */
  static async listen(target: string, options: LinkOptions = {}): Promise<LinkProxy> {
    const { host = '127.0.0.1', cutAfterBytes = Infinity, latencyMs = 0 } = options
    const state: LinkState = {
      ...{ target: targetOf(target), cutAfterBytes, latencyMs },
      ...{ isSilent: false, dropsAnswers: false },
    }
    const workerData: LinkWorkerData = { host, state, cuts: new SharedArrayBuffer(4) }
    const pending = new Map<number, () => void>()
    return new Promise((resolve, reject) => {
      const url = new URL('./link-worker.js', import.meta.url)
      const worker = new WorkerThread<LinkRequest, LinkNotice>(url, 'link', workerData, {
        notice: (notice) => {
          if (notice.type === 'done') pending.get(notice.id)?.()
          else resolve(new LinkProxy(`tcp:${host}:${notice.port}`, worker, pending, workerData))
        },
        ended: (cause) => {
          const text = 'the worker of the proxy has ended'
          reject(new PostcopyError('ERR_WORKER_LOST', text, { cause }))
        },
      })
    })
  }

  private constructor(
    uri: string,
    worker: WorkerThread<LinkRequest, LinkNotice>,
    pending: Map<number, () => void>,
    { cuts }: LinkWorkerData,
  ) {
    this.uri = uri
    this.#worker = worker
    this.#pending = pending
    this.#cuts = new Int32Array(cuts)
  }

  /** How many connections were cut. */
  get cuts(): number {
    return Atomics.load(this.#cuts, 0)
  }

  /**
   * Resolves when the change is in effect. `target` and `cutAfterBytes`
   * apply to further connections.
   */
  async change({ target, ...rest }: LinkChange): Promise<void> {
    await this.#request(target === undefined ? rest : { ...rest, target: targetOf(target) }, false)
  }

  /** Resets every open connection; further connections are not affected. */
  async cut(): Promise<void> {
    await this.#request({}, true)
  }

  async close(): Promise<void> {
    await this.#worker.terminate()
  }

  async #request(change: Partial<LinkState>, cut: boolean): Promise<void> {
    this.#lastId += 1
    const request: LinkRequest = { id: this.#lastId, change, cut }
    const done = new Promise<void>((resolve) => this.#pending.set(request.id, resolve))
    this.#worker.post(request)
    await Promise.race([done, this.#worker.ended])
    this.#pending.delete(request.id)
  }
}

function targetOf(text: string): LinkState['target'] {
  const uri = parseUri(text)
  if (uri.type === 'unix') return { path: uri.path }
  return { host: uri.host || '127.0.0.1', port: uri.port }
}

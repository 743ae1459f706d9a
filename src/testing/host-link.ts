/** A {@link LinkProxy} on one of {@link TwoHosts}. */
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { type ErrorRecord, PostcopyError, errorFromRecord } from '../errors.js'
import type { Host } from './host.js'
import type { LinkChange, LinkOptions } from './link-proxy.js'

export type HostLinkRequest = { readonly id: number } & (
  | { readonly listen: string; readonly options: LinkOptions }
  | { readonly change: LinkChange }
  | { readonly cut: true }
)

export interface HostLinkAnswer {
  readonly id: number
  readonly uri: string
  readonly cuts: number
  readonly error?: ErrorRecord
}

/**
 * A {@link LinkProxy} in a process of its own on a host, at the host's address. Start it on the
 * destination's host, so that connections to it cross the link between the hosts.
 */
export class HostLink {
  readonly #child: ChildProcess
  #last: HostLinkAnswer = { id: 0, uri: '', cuts: 0 }

  /**
   * @param target - `tcp:HOST:PORT` as that host sees it, or `unix:PATH`
   * @param options - as of {@link LinkProxy.listen}; `host` is the host's own address
   */
  static async listen(
    host: Host,
    target: string,
    options: Omit<LinkOptions, 'host'> = {},
  ): Promise<HostLink> {
    const link = new HostLink(host)
    try {
      await link.#request({ listen: target, options: { ...options, host: host.address } })
    } catch (error) {
      await link.close()
      throw error
    }
    return link
  }

  private constructor(host: Host) {
    const file = fileURLToPath(new URL('./link-process.js', import.meta.url))
    this.#child = host.spawn(process.execPath, [file], {
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
      serialization: 'advanced', // JSON has no Infinity
    })
    this.#child.setMaxListeners(0)
  }

  /** Where to connect instead of the target, `tcp:HOST:PORT`. */
  get uri(): string {
    return this.#last.uri
  }

  /** How many connections had been cut by the last request. */
  get cuts(): number {
    return this.#last.cuts
  }

  /** See {@link LinkProxy.change}. */
  async change(change: LinkChange): Promise<void> {
    await this.#request({ change })
  }

  /** See {@link LinkProxy.cut}. */
  async cut(): Promise<void> {
    await this.#request({ cut: true })
  }

  /** Closes every connection. May be called twice. */
  async close(): Promise<void> {
    const { exitCode, signalCode } = this.#child
    if (exitCode !== null || signalCode !== null) return
    const exit = once(this.#child, 'exit')
    this.#child.kill('SIGKILL')
    await exit
  }

  async #request(request: DistributiveOmit<HostLinkRequest, 'id'>): Promise<void> {
    const id = ++this.#lastId
    const answer = await new Promise<HostLinkAnswer>((resolve, reject) => {
      const look = (message: HostLinkAnswer): void => {
        if (message.id === id) settle(() => resolve(message))
      }
      const lost = (): void => {
        settle(() => reject(new PostcopyError('ERR_TWO_HOSTS', 'the process of a link has ended')))
      }
      const settle = (act: () => void): void => {
        this.#child.off('message', look)
        this.#child.off('exit', lost)
        act()
      }
      this.#child.on('message', look)
      this.#child.on('exit', lost)
      this.#child.send({ ...request, id })
    })
    if (answer.error !== undefined) throw errorFromRecord(answer.error)
    this.#last = answer
  }

  #lastId = 0
}

type DistributiveOmit<T, K extends PropertyKey> = T extends unknown ? Omit<T, K> : never

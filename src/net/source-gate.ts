/**
 * Connections whose role is not known yet. The first bytes of a source identify it, see
 * {@link SourceProbe}. A connection that stays silent, closes, or sends anything else is rejected;
 * it does not keep the source out.
 */
import { ConnectionError } from '../errors.js'
import type { StreamDecoderOptions } from '../stream/index.js'
import type { Channel } from './channel.js'
import type { ConnectionParameters } from './parameters.js'
import { MAX_UNKNOWN_BYTES, SourceProbe } from './source-probe.js'

export interface SourceGateEvents {
  /** Called for the source, then for the connections that were made after it. */
  accept(channel: Channel): void
  /**
   * A silent connection that was made before the source's main channel. It is its preempt channel,
   * if the network delayed the main channel, or the connection of a stranger. Called after the
   * source was accepted.
   */
  acceptEarly(channel: Channel): void
  /** A connection was rejected; the source may still connect. */
  refused(error: ConnectionError): void
}

interface Waiting {
  readonly timer: NodeJS.Timeout | undefined
  isSilent: boolean
}

export class SourceGate {
  readonly #resume: StreamDecoderOptions['resume']
  readonly #parameters: ConnectionParameters
  readonly #host: SourceGateEvents
  /** In the order in which they were made. */
  readonly #waiting = new Map<Channel, Waiting>()

  /** @param resume - of the paused migration that a source has to recover; undefined: a new one */
  constructor(
    resume: StreamDecoderOptions['resume'],
    parameters: ConnectionParameters,
    host: SourceGateEvents,
  ) {
    this.#resume = resume
    this.#parameters = parameters
    this.#host = host
  }

  /** Waits for the first bytes of `channel`. */
  add(channel: Channel): void {
    const { 'x-handshake-timeout': timeoutMs, 'x-max-connections': most } = this.#parameters
    const [oldest] = this.#waiting.keys()
    if (oldest !== undefined && this.#waiting.size >= most) {
      const why = `it is the oldest of ${most} connections that have not identified themselves (x-max-connections)`
      this.#reject(oldest, 'ERR_CONNECTION_CROWDED', why)
    }
    const late = (): void =>
      this.#reject(
        channel,
        'ETIMEDOUT',
        `it has not identified itself within ${timeoutMs} ms (x-handshake-timeout)`,
      )
    const timer = timeoutMs === 0 ? undefined : setTimeout(late, timeoutMs)
    const waiting: Waiting = { timer, isSilent: true }
    this.#waiting.set(channel, waiting)
    const probe = new SourceProbe(this.#resume)
    channel.start({
      consume: (bytes, start, end) => {
        waiting.isSilent = false
        this.#look(channel, probe, bytes.subarray(start, end))
        return 0
      },
      end: () => {
        const when = waiting.isSilent ? 'without sending anything' : 'before it identified itself'
        this.#reject(channel, 'ERR_CONNECTION_CLOSED', `it closed ${when}`)
      },
      close: (error) => {
        if (this.#forget(channel) && error !== undefined) this.#host.refused(error)
      },
    })
  }

  /** Closes all waiting connections. */
  drop(): void {
    for (const channel of [...this.#waiting.keys()]) if (this.#forget(channel)) channel.destroy()
  }

  #look(channel: Channel, probe: SourceProbe, bytes: Uint8Array): void {
    if (!this.#waiting.has(channel)) return
    const role = probe.look(bytes)
    switch (role.is) {
      case 'unknown':
      case 'multifd':
        if (bytes.length <= MAX_UNKNOWN_BYTES) return
        this.#reject(
          channel,
          'ERR_CONNECTION_STRANGER',
          role.is === 'multifd'
            ? `a multifd channel has sent ${bytes.length} bytes before the main channel was connected: turn off the capability multifd on the source`
            : `it has sent ${bytes.length} bytes without a RAM block list`,
        )
        break
      case 'stranger':
        this.#reject(channel, 'ERR_CONNECTION_STRANGER', role.why)
        break
      case 'source': {
        // Deferred, because the channel is still inside its `consume` call.
        const made = [...this.#waiting.keys()]
        queueMicrotask(() => this.#accept(channel, made))
        this.#forget(channel)
        break
      }
    }
  }

  /** @param made - the pending connections when the source was recognized, in order */
  #accept(source: Channel, made: readonly Channel[]): void {
    this.#host.accept(source)
    const at = made.indexOf(source)
    for (const channel of made.slice(at + 1)) if (this.#forget(channel)) this.#host.accept(channel)
    for (const channel of made.slice(0, at)) {
      const isSilent = this.#waiting.get(channel)?.isSilent === true
      if (isSilent && this.#forget(channel)) this.#host.acceptEarly(channel)
    }
    this.drop()
  }

  #reject(channel: Channel, code: string, why: string): void {
    if (!this.#forget(channel)) return
    const error = new ConnectionError(code, `${channel.peer} is not accepted as the source: ${why}`)
    // Report first: once the peer sees the connection close, it may end this thread.
    this.#host.refused(error)
    channel.destroy(error)
  }

  #forget(channel: Channel): boolean {
    clearTimeout(this.#waiting.get(channel)?.timer)
    return this.#waiting.delete(channel)
  }
}

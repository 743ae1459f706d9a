/**
 * Connections that have not said yet who they are. A source is known by its first bytes (protocol
 * sections 1.1 and 7). Until they have come nobody is let in, so that a stranger who connects
 * first, and then is silent, closes, or speaks of something else, takes nobody's place.
 */
import { ConnectionError } from '../errors.js'
import {
  MULTIFD_MAGIC,
  encode,
  encodeFileHeader,
  encodeRecvBitmapRequest,
} from '../stream/index.js'
import type { Channel } from './channel.js'
import type { Parameters } from './options.js'

/** 51 45 56 4d. */
const migrationBegins = encode(encodeFileHeader).subarray(0, 4)
/** 08 00 0a: without a word before it, the first block's received bitmap is asked for. */
const recoveryBegins = encode((out) => encodeRecvBitmapRequest(out, '')).subarray(0, 3)
/** A source's channels of multifd may speak before its first one does. */
const furtherBegins = encode((out) => out.u32(MULTIFD_MAGIC))

export interface ReceptionHost {
  /** The source; behind it, whoever came after it and may be its preempt channel. */
  welcome(channel: Channel): void
  /** Somebody was turned away; the right one may still come. */
  refused(error: ConnectionError): void
}

export class Reception {
  readonly #greeting: Uint8Array
  readonly #wanted: string
  readonly #parameters: Parameters
  readonly #host: ReceptionHost
  /** In the order in which they came. */
  readonly #waiting = new Map<Channel, NodeJS.Timeout>()

  /** @param isRecovery - the source goes on with a migration that is paused */
  constructor(isRecovery: boolean, parameters: Parameters, host: ReceptionHost) {
    this.#greeting = isRecovery ? recoveryBegins : migrationBegins
    this.#wanted = isRecovery
      ? 'a recovery (a source has to migrate with resume)'
      : 'a migration (a paused one has to be recovered first)'
    this.#parameters = parameters
    this.#host = host
  }

  /** Waits for its first bytes. */
  take(channel: Channel): void {
    const { 'x-handshake-timeout': timeoutMs, 'x-max-connections': most } = this.#parameters
    const [oldest] = this.#waiting.keys()
    if (oldest !== undefined && this.#waiting.size >= most) {
      this.#turnAway(
        oldest,
        'ERR_CONNECTION_CROWDED',
        `silent, and ${most} others (x-max-connections)`,
      )
    }
    const late = (): void =>
      this.#turnAway(channel, 'ETIMEDOUT', `silent for ${timeoutMs} ms (x-handshake-timeout)`)
    this.#waiting.set(channel, setTimeout(late, timeoutMs))
    channel.start({
      consume: (bytes, start, end) => {
        this.#look(channel, bytes.subarray(start, end))
        return 0
      },
      end: () => this.#turnAway(channel, 'ERR_CONNECTION_CLOSED', 'it closed without a word'),
      close: (error) => {
        if (this.#forget(channel) && error !== undefined) this.#host.refused(error)
      },
    })
  }

  /** Nobody waits here any more. */
  close(): void {
    for (const channel of [...this.#waiting.keys()]) this.#dismiss(channel)
  }

  #look(channel: Channel, bytes: Uint8Array): void {
    if (!this.#waiting.has(channel)) return
    const said = bytes.subarray(0, this.#greeting.length)
    if (isBeginningOf(said, furtherBegins)) return
    if (!isBeginningOf(said, this.#greeting)) {
      const text = `${Buffer.from(said).toString('hex')} does not begin ${this.#wanted}`
      this.#turnAway(channel, 'ERR_CONNECTION_STRANGER', text)
    } else if (said.length === this.#greeting.length) {
      // The channel is in the middle of handing over bytes.
      const come = [...this.#waiting.keys()]
      queueMicrotask(() => this.#letIn(channel, come))
      this.#forget(channel)
    }
  }

  /** @param come - who had come by then, in order; those who came before it are not of its making */
  #letIn(channel: Channel, come: readonly Channel[]): void {
    this.#host.welcome(channel)
    const later = come.slice(come.indexOf(channel) + 1)
    for (const other of later) if (this.#forget(other)) this.#host.welcome(other)
    this.close()
  }

  #turnAway(channel: Channel, code: string, why: string): void {
    if (!this.#forget(channel)) return
    const error = new ConnectionError(code, `${channel.peer} was turned away: ${why}`)
    channel.destroy(error)
    this.#host.refused(error)
  }

  #dismiss(channel: Channel): void {
    if (this.#forget(channel)) channel.destroy()
  }

  #forget(channel: Channel): boolean {
    clearTimeout(this.#waiting.get(channel))
    return this.#waiting.delete(channel)
  }
}

function isBeginningOf(said: Uint8Array, word: Uint8Array): boolean {
  return said.every((byte, index) => byte === word[index])
}

/** A connection without a socket: the test decides what arrives, and reads what was written. */
import assert from 'node:assert/strict'
import { ConnectionError } from '../../src/errors.js'
import type { Channel, ChannelEvents } from '../../src/net/channel.js'
import { MAX_LOOK_AHEAD_BYTES } from '../../src/stream/index.js'

export class FakeChannel implements Pick<Channel, keyof Channel> {
  readonly peer = 'the test'
  /** All bytes that were written. */
  readonly written: Uint8Array[] = []
  broken = false
  error: ConnectionError | undefined
  /** Whether the writing side has ended. */
  hasEnded = false
  unsentBytes = 0
  readonly directFd = undefined
  #events: ChannelEvents | undefined
  /** The events of a consumer whose `close` has not been called yet. */
  #closing: ChannelEvents | undefined
  #waiting: Uint8Array = new Uint8Array()

  /** This object with the type that consumers of a Channel expect. */
  get asChannel(): Channel {
    return this as Pick<Channel, keyof Channel> as Channel
  }

  detectSilence(): void {
    // There is no silence to detect: only the test sends.
  }

  checkReturnPath(): void {
    // Plaintext, so there is no return path to require.
  }

  start(events: ChannelEvents): void {
    this.#events = events
    this.#consume()
    if (this.broken) this.#sayClosed()
  }

  write(bytes: Uint8Array, written?: (error: Error | null | undefined) => void): void {
    this.written.push(bytes.slice())
    written?.(undefined)
  }

  spin(): void {
    // Nothing arrives during a spin.
  }

  endWriting(): void {
    this.hasEnded = true
  }

  /** As with a socket, the event is emitted later: see {@link settle}. */
  destroy(reason?: ConnectionError): void {
    this.#close(reason)
  }

  /** Emits the events that a socket would have emitted by now. */
  settle(): void {
    const events = this.#closing
    this.#closing = undefined
    events?.close(this.error)
  }

  /** Lets these bytes arrive. */
  receive(bytes: Uint8Array): void {
    if (this.broken) return
    const both = new Uint8Array(this.#waiting.length + bytes.length)
    both.set(this.#waiting)
    both.set(bytes, this.#waiting.length)
    this.#waiting = both
    this.#consume()
  }

  /** The peer has closed its side. */
  end(): void {
    if (!this.broken) this.#events?.end()
  }

  /** The connection is broken. */
  breakOff(code: string | undefined): void {
    this.#close(code === undefined ? undefined : new ConnectionError(code, 'broken by the test'))
  }

  #consume(): void {
    const events = this.#events
    if (events === undefined || this.#waiting.length === 0) return
    const taken = events.consume(this.#waiting, 0, this.#waiting.length)
    assert(
      Number.isInteger(taken) && taken >= 0 && taken <= this.#waiting.length,
      `took ${taken} of ${this.#waiting.length} bytes`,
    )
    this.#waiting = this.#waiting.slice(taken)
    assert(this.#waiting.length < MAX_LOOK_AHEAD_BYTES, 'the remaining bytes are not an element')
    events.afterRead?.()
  }

  #close(error: ConnectionError | undefined): void {
    if (this.broken) return
    this.broken = true
    this.error = error
    this.#sayClosed()
  }

  #sayClosed(): void {
    if (this.#events === undefined) return
    this.#closing = this.#events
    this.#events = undefined
  }
}

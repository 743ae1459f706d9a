/** Listens for one source: a {@link SourceGate} finds it among the connections. */
import type { ConnectionError } from '../errors.js'
import type { StreamDecoderOptions } from '../stream/index.js'
import type { Channel } from './channel.js'
import { type Listener, listen } from './connection.js'
import type { ConnectionParameters } from './parameters.js'
import { SourceGate } from './source-gate.js'
import type { TlsCredentials } from './tls-credentials.js'
import type { MigrationUri } from './uri.js'

/** The end that receives the source's connections. */
export interface SourceListenerHost {
  /** The source's main channel is connected. */
  readonly isConnected: boolean
  /** Called for the source's main channel, and then for the connections that were made after it. */
  accept(channel: Channel): void
  /** See `SourceGateEvents`. */
  acceptEarly(channel: Channel): void
}

export interface SourceListenerOptions {
  /** Undefined: plaintext. */
  readonly tls: TlsCredentials | undefined
  readonly parameters: ConnectionParameters
  /** Of the paused migration that a source has to recover; undefined: a new one. */
  readonly resume: StreamDecoderOptions['resume']
}

export class SourceListener {
  readonly #options: SourceListenerOptions
  readonly #host: SourceListenerHost
  readonly #refused: (error: ConnectionError) => void
  readonly #gate: SourceGate
  #listener: Listener | undefined
  #isClosed = false

  /** @param refused - a connection was rejected; the source may still connect */
  constructor(
    options: SourceListenerOptions,
    host: SourceListenerHost,
    refused: (error: ConnectionError) => void,
  ) {
    this.#options = options
    this.#host = host
    this.#refused = refused
    this.#gate = new SourceGate(options.resume, options.parameters, {
      accept: (channel) => host.accept(channel),
      acceptEarly: (channel) => host.acceptEarly(channel),
      refused,
    })
  }

  /**
   * @returns the address, with the port that the kernel picked for port 0; undefined if
   *   {@link SourceListener.close} was called meanwhile
   * @throws ConnectionError as {@link listen}
   */
  async listen(uri: MigrationUri): Promise<MigrationUri | undefined> {
    const { tls, parameters } = this.#options
    const listener = await listen(uri, {
      tls,
      handshakes: parameters,
      accepted: (channel) => {
        // Not through the gate: the preempt channel may stay silent for long.
        if (this.#host.isConnected) this.#host.accept(channel)
        else this.#gate.add(channel)
      },
      refused: this.#refused,
    })
    if (this.#isClosed) {
      listener.close()
      return undefined
    }
    this.#listener = listener
    return listener.uri
  }

  /** Ends listening, and closes the connections that have not identified themselves. */
  close(): void {
    this.#isClosed = true
    this.#listener?.close()
    this.#gate.drop()
  }
}

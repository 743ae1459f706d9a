/** TLS handshakes of accepted connections: one that fails does not affect the others. */
import type net from 'node:net'
import type { ConnectionError } from '../errors.js'
import { Channel } from './channel.js'
import type { ConnectionParameters } from './parameters.js'
import { secureServer } from './tls.js'
import type { TlsCredentials } from './tls-credentials.js'

export interface HandshakesHost {
  /** How many handshakes may be pending, and how long one may take. */
  readonly handshakes: Pick<ConnectionParameters, 'x-max-connections' | 'x-handshake-timeout'>
  /**
   * The client's certificate is valid. The client may still reject ours: Node checks the server's
   * certificate after the handshake.
   */
  accepted(channel: Channel): void
  refused(error: ConnectionError): void
}

export class Handshakes {
  readonly #credentials: TlsCredentials
  readonly #host: HandshakesHost
  /** In the order in which they were accepted. */
  readonly #pending = new Set<net.Socket>()
  #ended = false

  constructor(credentials: TlsCredentials, host: HandshakesHost) {
    this.#credentials = credentials
    this.#host = host
  }

  /** Resolves when the connection was accepted or refused. */
  async take(socket: net.Socket, peer: string): Promise<void> {
    const { 'x-max-connections': most, 'x-handshake-timeout': timeoutMs } = this.#host.handshakes
    const [oldest] = this.#pending
    if (this.#pending.size >= most) oldest?.destroy()
    this.#pending.add(socket)
    try {
      const secured = await secureServer(socket, peer, this.#credentials, timeoutMs)
      if (this.#ended) secured.destroy()
      else this.#host.accepted(Channel.secured(secured, peer))
    } catch (error) {
      if (!this.#ended) this.#host.refused(error as ConnectionError)
    } finally {
      this.#pending.delete(socket)
    }
  }

  /** Destroys pending connections; none is accepted or refused after this. */
  end(): void {
    this.#ended = true
    for (const socket of this.#pending) socket.destroy()
  }
}

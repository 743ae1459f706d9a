/** Connects to and listens on migration URIs. */
import net from 'node:net'
import { Channel } from './channel.js'
import type { ConnectTimeout } from './connect-timeout.js'
import { Handshakes, type HandshakesHost } from './handshakes.js'
import { listenOn } from './listen-on.js'
import type { TlsClient, TlsCredentials } from './tls-credentials.js'
import { type MigrationUri, formatUri } from './uri.js'

function socketOptions(uri: MigrationUri): net.TcpNetConnectOpts | net.IpcNetConnectOpts {
  return uri.type === 'tcp' ? { host: uri.host || 'localhost', port: uri.port } : { path: uri.path }
}

export interface ConnectOptions extends ConnectTimeout {
  /** Undefined: plaintext. */
  readonly tls: TlsClient | undefined
}

/** See {@link Channel.connect} for the errors. */
export function connect(uri: MigrationUri, options: ConnectOptions): Promise<Channel> {
  return Channel.connect(socketOptions(uri), formatUri(uri), options, options.tls)
}

export interface ListenOptions extends HandshakesHost {
  /** Undefined: plaintext. */
  readonly tls: TlsCredentials | undefined
}

export interface Listener {
  /** The address it listens on, with the port that the kernel picked for port 0. */
  readonly uri: MigrationUri
  close(): void
}

/**
 * Listens on `uri`; on loopback if a tcp URI names no host. Only the owner can use a unix socket.
 * A stale one, on which no process listens any more, is replaced.
 *
 * @throws ConnectionError with the errno name (`EADDRINUSE`, …) and the URI
 */
export async function listen(uri: MigrationUri, options: ListenOptions): Promise<Listener> {
  const { tls } = options
  const handshakes = tls === undefined ? undefined : new Handshakes(tls, options)
  const allowHalfOpen = handshakes === undefined
  const server = net.createServer({ pauseOnConnect: true, allowHalfOpen }, (socket) => {
    const peer =
      uri.type === 'unix' ? formatUri(uri) : `tcp:${socket.remoteAddress}:${socket.remotePort}`
    if (handshakes !== undefined) {
      void handshakes.take(socket, peer)
      return
    }
    let channel: Channel
    try {
      channel = Channel.accept(socket, peer)
    } catch {
      return // gone again already
    }
    options.accepted(channel)
  })
  const listening = await listenOn(server, uri)
  return {
    uri: listening.uri,
    close: () => {
      listening.close()
      handshakes?.end()
    },
  }
}

/** Making and taking connections for migration URIs. */
import { chmod, rm } from 'node:fs/promises'
import net from 'node:net'
import { ConnectionError } from '../errors.js'
import { Channel } from './channel.js'
import { type MigrationUri, formatUri } from './uri.js'

function socketOptions(uri: MigrationUri): net.TcpNetConnectOpts | net.IpcNetConnectOpts {
  return uri.type === 'tcp' ? { host: uri.host || 'localhost', port: uri.port } : { path: uri.path }
}

/** See {@link Channel.connect} for the errors. */
export function connect(
  uri: MigrationUri,
  options: { timeoutMs: number; signal: AbortSignal },
): Promise<Channel> {
  return Channel.connect(socketOptions(uri), formatUri(uri), options)
}

export interface Listener {
  /** Where it listens, with the port that the kernel picked for port 0. */
  readonly uri: MigrationUri
  close(): void
}

/**
 * Listens, on loopback where a tcp URI names no host. A unix socket is for its owner alone; a
 * stale one, which nobody listens on any more, is replaced.
 *
 * @throws ConnectionError with the errno name (`EADDRINUSE`, …) and the URI
 */
export async function listen(
  uri: MigrationUri,
  onConnection: (channel: Channel) => void,
): Promise<Listener> {
  const server = net.createServer({ pauseOnConnect: true, allowHalfOpen: true }, (socket) => {
    const peer =
      uri.type === 'unix' ? formatUri(uri) : `tcp:${socket.remoteAddress}:${socket.remotePort}`
    let channel: Channel
    try {
      channel = Channel.accept(socket, peer)
    } catch {
      return // gone again already
    }
    onConnection(channel)
  })
  await listenOn(server, uri)
  const address = server.address()
  const bound =
    uri.type === 'tcp' && typeof address === 'object' && address !== null
      ? { ...uri, host: uri.host || address.address, port: address.port }
      : uri
  return { uri: bound, close: () => void server.close() }
}

/**
 * Binds a server of any kind as {@link listen} says.
 *
 * @throws ConnectionError with the errno name and the URI
 */
export async function listenOn(server: net.Server, uri: MigrationUri): Promise<void> {
  try {
    await bind(server, uri)
  } catch (error) {
    if (uri.type !== 'unix' || !(await isStale(uri.path))) throw error
    await rm(uri.path)
    await bind(server, uri)
  }
  if (uri.type === 'unix') await chmod(uri.path, 0o600)
}

function bind(server: net.Server, uri: MigrationUri): Promise<void> {
  return new Promise((resolve, reject) => {
    const refuse = (error: NodeJS.ErrnoException): void => {
      const text = `cannot listen on ${formatUri(uri)}: ${error.message}`
      reject(new ConnectionError(error.code ?? 'ERR_CONNECTION', text, { cause: error }))
    }
    server.once('error', refuse)
    server.listen(
      uri.type === 'tcp' ? { host: uri.host || '127.0.0.1', port: uri.port } : { path: uri.path },
      () => {
        server.off('error', refuse)
        resolve()
      },
    )
  })
}

/** Whether a unix socket's file is there but nobody listens on it. */
function isStale(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = net.connect({ path })
    socket.once('connect', () => {
      socket.destroy()
      resolve(false)
    })
    socket.once('error', (error: NodeJS.ErrnoException) => resolve(error.code === 'ECONNREFUSED'))
  })
}

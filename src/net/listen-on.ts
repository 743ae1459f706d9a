/** Binding servers of any kind to migration URIs. */
import { lstatSync, rmSync } from 'node:fs'
import { lstat, rm } from 'node:fs/promises'
import net from 'node:net'
import { ConnectionError, PostcopyError } from '../errors.js'
import { listenUnixSocket } from '../kernel/index.js'
import { type MigrationUri, formatUri } from './uri.js'

export interface Listening {
  /** The address it listens on, with the port that the kernel picked for port 0. */
  readonly uri: MigrationUri
  /** Closes the server, and removes the file of a unix socket unless it was replaced. */
  close(): void
}

/**
 * Listens on `uri`; on loopback if a tcp URI names no host. Only the owner can use a unix socket.
 * A stale one, on which no process listens any more, is replaced.
 *
 * @throws ConnectionError with the errno name (`EADDRINUSE`, …) and the URI
 */
export async function listenOn(server: net.Server, uri: MigrationUri): Promise<Listening> {
  if (uri.type === 'unix') {
    const isOurs = await listenUnix(server, uri.path)
    return {
      uri,
      close: () => {
        // Removed before the socket is closed: until then no other file can have the inode number
        // of ours. A client also never finds a file on which no process listens.
        if (isOurs()) rmSync(uri.path, { force: true })
        server.close()
      },
    }
  }
  await begin(server, uri, { host: uri.host || '127.0.0.1', port: uri.port })
  const address = server.address()
  const bound =
    typeof address === 'object' && address !== null
      ? { ...uri, host: uri.host || address.address, port: address.port }
      : uri
  return { uri: bound, close: () => void server.close() }
}

/** Removes the file of a unix socket on which no process listens: its owner has died. */
export async function removeStale(path: string): Promise<void> {
  if (await isStale(path)) await rm(path, { force: true })
}

/** @returns a function that tells whether the file at `path` is still the one that was made here */
async function listenUnix(server: net.Server, path: string): Promise<() => boolean> {
  let fd: number
  try {
    fd = listeningSocket(path)
  } catch (error) {
    if (codeOf(error) !== 'EADDRINUSE') throw error
    if (await isOtherFile(path)) throw noSocket(path, error)
    if (!(await isStale(path))) throw error
    await rm(path)
    fd = listeningSocket(path)
  }
  const made = identity(path)
  await begin(server, { type: 'unix', path }, { fd })
  return () => made !== undefined && identity(path) === made
}

/** Device and inode of the file at `path`; undefined if there is none or lstat(2) fails. */
function identity(path: string): string | undefined {
  try {
    const { dev, ino } = lstatSync(path, { bigint: true })
    return `${dev}:${ino}`
  } catch {
    return undefined
  }
}

function codeOf(error: unknown): string | undefined {
  return error instanceof PostcopyError ? error.code : undefined
}

/** Made natively: Node can change the mode only after other users could connect to the file. */
function listeningSocket(path: string): number {
  try {
    return listenUnixSocket(path, 0o600)
  } catch (error) {
    throw cannotListen({ type: 'unix', path }, error as NodeJS.ErrnoException)
  }
}

function begin(
  server: net.Server,
  uri: MigrationUri,
  where: net.ListenOptions | { readonly fd: number },
): Promise<void> {
  return new Promise((resolve, reject) => {
    const refuse = (error: NodeJS.ErrnoException): void => reject(cannotListen(uri, error))
    server.once('error', refuse)
    server.listen(where, () => {
      server.off('error', refuse)
      resolve()
    })
  })
}

function cannotListen(uri: MigrationUri, error: NodeJS.ErrnoException): ConnectionError {
  const text = `cannot listen on ${formatUri(uri)}: ${error.message}`
  return new ConnectionError(error.code ?? 'ERR_CONNECTION', text, { cause: error })
}

/** Whether `path` is a file that is not a socket. */
async function isOtherFile(path: string): Promise<boolean> {
  const file = await lstat(path).catch(() => undefined)
  return file?.isSocket() === false
}

function noSocket(path: string, cause: unknown): ConnectionError {
  const text = `cannot listen on unix:${path}: a file that is not a socket exists there; it was left unchanged: give another path`
  return new ConnectionError('EADDRINUSE', text, { cause })
}

/** Whether `path` is a unix socket on which no process listens. Any other file must be kept. */
async function isStale(path: string): Promise<boolean> {
  const file = await lstat(path).catch(() => undefined)
  if (file?.isSocket() !== true) return false
  return new Promise((resolve) => {
    const socket = net.connect({ path })
    socket.once('connect', () => {
      socket.destroy()
      resolve(false)
    })
    socket.once('error', (error: NodeJS.ErrnoException) => resolve(error.code === 'ECONNREFUSED'))
  })
}

/** A destination that listens with TLS, the source that it accepts, and clients that it rejects. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import net from 'node:net'
import tls, { type ConnectionOptions } from 'node:tls'
import type { Destination } from '../../src/destination/destination.js'
import type { PostcopyError } from '../../src/errors.js'
import type { MigrationOptions } from '../../src/migration/options.js'
import { temporaryFolder } from '../cli/support.js'
import { makeCredentials } from './certificates.js'
import { portOf } from './fake-peer.js'
import { listenFor, migrateTo } from './migration.js'
import { TestMachine } from './test-machine.js'

export const LOOPBACK = '127.0.0.1'

export function filled(): TestMachine {
  const machine = new TestMachine()
  machine.fill()
  machine.start()
  return machine
}

/** Credentials, and a machine that listens with them. */
export async function awaiting(options: MigrationOptions = {}) {
  const folder = await temporaryFolder()
  const { directory, authority } = makeCredentials(folder)
  const parameters = { 'tls-creds': directory, ...options.parameters }
  const there = new TestMachine()
  const destination = await listenFor(there, { ...options, parameters })
  return { folder, directory, authority, parameters, there, destination }
}

/** The next connection that is rejected. */
export async function nextRefusal(destination: Destination): Promise<PostcopyError> {
  const [error] = (await once(destination, 'refused')) as [PostcopyError]
  return error
}

/** The right source is still accepted. */
export async function assertStillOpen(
  destination: Destination,
  there: TestMachine,
  options: MigrationOptions,
): Promise<void> {
  assert.equal(destination.state, 'setup')
  const here = filled()
  const source = migrateTo(destination.uri, here, options)
  await Promise.all([source.done, destination.done])
  assert(here.content('ram').equals(there.content('ram')))
}

/** Connects as a stranger, and returns the result: an error's code, or nothing. */
export async function knock(uri: string, options: ConnectionOptions): Promise<string> {
  const socket = tls.connect({
    host: LOOPBACK,
    port: portOf(uri),
    rejectUnauthorized: false,
    ...options,
  })
  let code = ''
  socket.on('error', (error: NodeJS.ErrnoException) => {
    code = error.code ?? ''
  })
  socket.resume()
  await closed(socket)
  return code
}

/** Sends `bytes` in plaintext. */
export async function knockInClear(uri: string, bytes: Uint8Array): Promise<void> {
  const socket = net.connect(portOf(uri), LOOPBACK)
  socket.on('error', () => undefined)
  await once(socket, 'connect')
  socket.end(bytes)
  socket.resume()
  await closed(socket)
}

/** Resolves when it has closed, with or without an error. */
export function closed(socket: net.Socket): Promise<void> {
  return new Promise((resolve) => {
    socket.once('close', () => resolve())
  })
}

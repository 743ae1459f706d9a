import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import net from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { cleanups } from '../support/cleanup.js'

export interface Peer {
  /** The path of its unix socket. */
  readonly path: string
  readonly server: net.Server
  /** The connections of the source, in order. */
  readonly sockets: readonly net.Socket[]
}

/** Listens as a destination does; the test reads and writes its sockets. Closed after the test. */
export async function listen(): Promise<Peer> {
  const directory = mkdtempSync(join(tmpdir(), 'postcopy-peer-'))
  const path = join(directory, 'socket')
  const sockets: net.Socket[] = []
  const server = net.createServer((socket) => {
    // The source may close while the test writes.
    socket.on('error', () => undefined)
    sockets.push(socket)
  })
  server.listen(path)
  cleanups.add(() => {
    for (const socket of sockets) socket.destroy()
    server.close()
    rmSync(directory, { recursive: true })
  })
  await once(server, 'listening')
  return { path, server, sockets }
}

/** A destination that answers nothing, or only the first ping. */
import { once } from 'node:events'
import net from 'node:net'
import { join } from 'node:path'
import { temporaryFolder } from '../cli/support.js'
import { encode, encodePong, PingValue } from '../../src/stream/index.js'
import { cleanups } from './cleanup.js'

/**
 * Accepts and reads.
 *
 * @param answersFirst - answer the first ping, so that the source switches to postcopy
 * @returns its URI, and `sent`, which resolves at the first byte
 */
export async function silentListener(
  answersFirst = false,
): Promise<{ uri: string; sent: Promise<unknown> }> {
  const path = join(await temporaryFolder(), 'silent')
  const sockets = new Set<net.Socket>()
  const server = net.createServer((socket) => {
    sockets.add(socket)
    socket.on('error', () => undefined)
    if (answersFirst) socket.write(encode((out) => encodePong(out, PingValue.start)))
    socket.on('data', () => server.emit('sent'))
  })
  const sent = once(server, 'sent')
  server.listen(path)
  await once(server, 'listening')
  cleanups.add(() => {
    server.close()
    for (const socket of sockets) socket.destroy()
  })
  return { uri: `unix:${path}`, sent }
}

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import net from 'node:net'
import { join } from 'node:path'
import type { Channel } from '../../src/net/channel.js'
import { SourceListener, type SourceListenerHost } from '../../src/net/source-listener.js'
import { formatUri } from '../../src/net/uri.js'
import { temporaryFolder } from '../cli/support.js'
import { cleanups } from '../support/cleanup.js'

const parameters = {
  'x-handshake-timeout': 0,
  'x-max-connections': 1,
  'tls-creds': '',
  'tls-hostname': '',
}

/** A listener whose host says that the source is connected, or is not. */
function listenerFor({ isConnected }: { readonly isConnected: boolean }) {
  const refused: string[] = []
  const accepted: Channel[] = []
  const host: SourceListenerHost = {
    isConnected,
    accept: (channel) => void accepted.push(channel),
    acceptEarly: (channel) => channel.destroy(),
  }
  const listener = new SourceListener(
    { tls: undefined, parameters, resume: undefined },
    host,
    (error) => void refused.push(error.code),
  )
  cleanups.add(() => {
    listener.close()
    for (const channel of accepted) channel.destroy()
  })
  return { listener, accepted, refused }
}

async function connected(path: string): Promise<net.Socket> {
  const socket = net.connect(path)
  cleanups.add(() => void socket.destroy())
  await once(socket, 'connect')
  return socket
}

describe('SourceListener', () => {
  it('listens no more if it is closed before it listens', async () => {
    const path = join(await temporaryFolder(), 'socket')
    const { listener } = listenerFor({ isConnected: false })
    const listening = listener.listen({ type: 'unix', path })
    listener.close()
    assert.equal(await listening, undefined)
    assert.equal(existsSync(path), false)
  })

  it('returns the port that the kernel picked, and closes it', async () => {
    const { listener } = listenerFor({ isConnected: false })
    const uri = await listener.listen({ type: 'tcp', host: '127.0.0.1', port: 0 })
    assert(uri?.type === 'tcp')
    assert.match(formatUri(uri), /^tcp:127\.0\.0\.1:[1-9][0-9]*$/)
    listener.close()
    const socket = net.connect(uri.port, uri.host)
    await assert.rejects(once(socket, 'connect'), { code: 'ECONNREFUSED' })
  })

  it('rejects the oldest unknown connection, and closes the others with itself', async () => {
    const path = join(await temporaryFolder(), 'socket')
    const { listener, accepted, refused } = listenerFor({ isConnected: false })
    await listener.listen({ type: 'unix', path })
    const first = await connected(path)
    const firstClosed = once(first.resume(), 'close')
    const second = await connected(path)
    const secondClosed = once(second.resume(), 'close')
    await firstClosed
    assert.deepEqual(refused, ['ERR_CONNECTION_CROWDED'])
    listener.close()
    await secondClosed
    assert.deepEqual(accepted, [])
  })

  it('accepts every connection once the source is connected', async () => {
    const path = join(await temporaryFolder(), 'socket')
    const { listener, accepted, refused } = listenerFor({ isConnected: true })
    await listener.listen({ type: 'unix', path })
    for (let count = 1; count <= 2; count += 1) {
      await connected(path)
      while (accepted.length < count) await new Promise(setImmediate)
    }
    assert.deepEqual(refused, [])
  })
})

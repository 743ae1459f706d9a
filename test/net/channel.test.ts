import assert from 'node:assert/strict'
import { once } from 'node:events'
import net from 'node:net'
import { join } from 'node:path'
import tls from 'node:tls'
import { ConnectionError } from '../../src/errors.js'
import { Channel } from '../../src/net/channel.js'
import { temporaryFolder } from '../cli/support.js'
import { makeCredentials, tlsFiles } from '../support/certificates.js'
import { cleanups } from '../support/cleanup.js'
import { requires } from '../support/requires.js'

/** Less than the kernel buffers for a unix socket, so that all of it is queued. */
const SENT_BYTES = 160 * 1024

/** Both ends of a connection; the channel at our end is not started. */
async function connection(kind: 'tcp' | 'unix'): Promise<{ peer: net.Socket; channel: Channel }> {
  const path = join(await temporaryFolder(), 'channel')
  const server = net.createServer({ pauseOnConnect: true })
  if (kind === 'unix') server.listen(path)
  else server.listen(0, '127.0.0.1')
  cleanups.add(() => server.close())
  await once(server, 'listening')
  const address = server.address() as net.AddressInfo | string
  const peer = typeof address === 'string' ? net.connect(address) : net.connect(address.port)
  cleanups.add(() => peer.destroy())
  const [accepted] = (await once(server, 'connection')) as [net.Socket]
  const channel = Channel.accept(accepted, 'the peer')
  cleanups.add(() => channel.destroy())
  return { peer, channel }
}

/** Like {@link connection}, with TLS. */
async function securedConnection(): Promise<{ peer: net.Socket; channel: Channel }> {
  const { directory } = makeCredentials(await temporaryFolder())
  const { ca, cert, key } = tlsFiles(directory, 'server')
  const server = tls.createServer({ ca, cert, key })
  server.listen(0, '127.0.0.1')
  cleanups.add(() => server.close())
  await once(server, 'listening')
  const { port } = server.address() as net.AddressInfo
  const peer = tls.connect({ port, host: '127.0.0.1', rejectUnauthorized: false })
  cleanups.add(() => peer.destroy())
  const [socket] = (await once(server, 'secureConnection')) as [tls.TLSSocket]
  const channel = Channel.secured(socket, 'the peer')
  cleanups.add(() => channel.destroy())
  return { peer, channel }
}

describe('a channel that closes before its consumer starts', () => {
  for (const when of ['just now', 'long ago']) {
    it(`reports that at the start (${when})`, async () => {
      const { channel } = await connection('unix')
      channel.destroy(new ConnectionError('ECONNRESET', 'gone'))
      if (when === 'long ago') await new Promise(setImmediate)
      const nothing = (): number => assert.fail('nothing was sent')
      const error = await new Promise<ConnectionError | undefined>((close) => {
        channel.start({ consume: nothing, end: nothing, close })
      })
      assert.equal(error?.code, 'ECONNRESET')
    })
  }
})

describe('a channel whose first consumer only peeks', () => {
  it('reads little until bytes are consumed, then all, in order', async () => {
    const { peer, channel } = await connection('unix')
    const sent = Uint8Array.from({ length: SENT_BYTES }, (_, index) => index % 251)
    await new Promise((resolve) => peer.write(sent, resolve))

    const end = (): void => undefined
    const seen = await new Promise<number>((resolve) => {
      const consume = (_: Uint8Array, start: number, stop: number): number => {
        resolve(stop - start)
        return 0
      }
      channel.start({ consume, end, close: end })
    })
    // If a full buffer were peeked at, the next read would have no room: ENOBUFS.
    assert(seen <= 64 * 1024, `${seen} bytes`)

    const got = Buffer.alloc(SENT_BYTES)
    let length = 0
    await new Promise<void>((resolve, reject) => {
      const consume = (bytes: Uint8Array, start: number, stop: number): number => {
        got.set(bytes.subarray(start, stop), length)
        length += stop - start
        if (length === SENT_BYTES) resolve()
        return stop - start
      }
      channel.start({ consume, end, close: reject })
    })
    assert(got.equals(sent))
  })
})

describe('a channel whose consumer consumes nothing', () => {
  for (const kind of ['tcp', 'unix', 'tls'] as const) {
    it(`is closed when its buffer is full, with the reason (${kind})`, async function () {
      if (kind === 'tls') requires(this, 'openssl')
      const { peer, channel } = await (kind === 'tls' ? securedConnection() : connection(kind))
      let seen = 0
      const closed = new Promise<ConnectionError | undefined>((close) => {
        const consume = (_: Uint8Array, start: number, stop: number): number => {
          assert(stop > start, 'called without new bytes')
          seen = stop - start
          return 0
        }
        channel.start({ consume, end: () => undefined, close })
      })
      peer.on('error', () => undefined)
      peer.write(Buffer.alloc(4 * 2 ** 20))
      const error = await closed
      assert.equal(error?.code, 'ERR_CONNECTION_FULL')
      assert.match(error.message, /the peer .*1048576 bytes/)
      assert.equal(seen, 2 ** 20)
    })
  }
})

describe('a channel whose peer does not read for a while', () => {
  for (const kind of ['tcp', 'unix'] as const) {
    it(`delivers all bytes in order, once (${kind})`, async () => {
      const { peer, channel } = await connection(kind)
      const nothing = (): number => assert.fail('nothing was sent')
      channel.start({ consume: nothing, end: nothing, close: () => undefined })
      const written: number[] = []
      const expected: Uint8Array[] = []
      const write = (length: number): void => {
        const index = expected.length
        expected.push(new Uint8Array(length).fill(index))
        channel.write(expected[index] ?? assert.fail(), () => written.push(index))
      }
      for (const length of [16 * 2 ** 20, 20, 2 ** 20]) write(length)
      assert(channel.unsentBytes > 2 ** 20, 'more than the kernel takes')

      const got: Buffer[] = []
      let length = 0
      let later = 0
      await new Promise<void>((resolve) => {
        peer.on('data', (bytes: Buffer) => {
          got.push(bytes)
          length += bytes.length
          // The kernel has room again, but earlier bytes are still queued in the channel.
          if (channel.unsentBytes > 0 && later < 50) {
            later += 1
            write(20)
          }
          if (length >= 17 * 2 ** 20 + 20 + 20 * later) resolve()
        })
      })
      assert(later > 10, `${later} small pieces`)
      assert(Buffer.concat(got).equals(Buffer.concat(expected)))
      assert.deepEqual(written, [...expected.keys()])
    })
  }
})

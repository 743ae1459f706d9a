import assert from 'node:assert/strict'
import { once } from 'node:events'
import net from 'node:net'
import { join } from 'node:path'
import { ConnectionError } from '../../src/errors.js'
import { Channel } from '../../src/migration/channel.js'
import { temporaryFolder } from '../cli/support.js'
import { cleanups } from '../support/cleanup.js'

/** Less than what the kernel holds for a unix socket, so that all of it waits. */
const SENT_BYTES = 160 * 1024

/** Both ends of a connection; ours is not started. */
async function connection(): Promise<{ peer: net.Socket; channel: Channel }> {
  const path = join(await temporaryFolder(), 'channel')
  const server = net.createServer({ pauseOnConnect: true }).listen(path)
  cleanups.add(() => server.close())
  const peer = net.connect(path)
  cleanups.add(() => peer.destroy())
  const [accepted] = (await once(server, 'connection')) as [net.Socket]
  const channel = Channel.accept(accepted, 'the peer')
  cleanups.add(() => channel.destroy())
  return { peer, channel }
}

describe('a channel that is gone before anybody reads it', () => {
  for (const when of ['just now', 'long ago']) {
    it(`says so to whoever starts it (${when})`, async () => {
      const { channel } = await connection()
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

describe('a channel whose first consumer only looks', () => {
  it('reads little until something is taken, then all, in order', async () => {
    const { peer, channel } = await connection()
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
    // Were all of a full buffer only looked at, the next read would have no room: ENOBUFS.
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

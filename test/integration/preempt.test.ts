/** The preempt channel: when its connection is made, and what a source does if that fails. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import net from 'node:net'
import type { PostcopyError } from '../../src/errors.js'
import { cleanups } from '../support/cleanup.js'
import { FakeDestination, portOf } from '../support/fake-peer.js'
import { listenFor, migrateTo, postcopy } from '../support/migration.js'
import { TestMachine } from '../support/test-machine.js'

const blocks = { ram: 2 ** 18, vram: 2 ** 16 }
const capabilities = { ...postcopy, 'postcopy-preempt': true }

function running(): TestMachine {
  const machine = new TestMachine({ blocks })
  machine.fill()
  machine.start()
  return machine
}

/** A proxy that connects to the target in the order that the test chooses. */
async function proxyOf(connection: (source: net.Socket, index: number) => void): Promise<string> {
  let count = 0
  const server = net.createServer({ pauseOnConnect: true }, (source) => {
    source.on('error', () => undefined)
    cleanups.add(() => source.destroy())
    connection(source, count)
    count += 1
  })
  server.listen(0, '127.0.0.1')
  cleanups.add(() => server.close())
  await once(server, 'listening')
  return `tcp:127.0.0.1:${(server.address() as net.AddressInfo).port}`
}

/** Resolves when the connection is in the target's queue, with both directions joined. */
async function join(source: net.Socket, uri: string): Promise<void> {
  const target = net.connect(portOf(uri), '127.0.0.1').on('error', () => undefined)
  cleanups.add(() => target.destroy())
  await once(target, 'connect')
  source.pipe(target).pipe(source)
}

/** The source fails, and its guest has never been stopped. */
async function assertStays(uri: string, message: RegExp): Promise<void> {
  const here = running()
  const source = migrateTo(uri, here, {
    capabilities,
    parameters: { 'x-timeout': 1500 },
    postcopyAtOnce: true,
  })
  await assert.rejects(source.done, (error: PostcopyError) => message.test(error.message))
  assert.equal(source.state, 'failed')
  assert.deepEqual([here.running, here.stops], [true, 0])
}

describe('a preempt channel whose connection arrives before the main one', () => {
  it('is kept and used', async () => {
    const there = new TestMachine({ blocks })
    const destination = await listenFor(there, { capabilities })
    let main: net.Socket | undefined
    let preemptBytes = 0
    const uri = await proxyOf((source, index) => {
      if (index === 0) main = source
      else {
        source.on('data', (bytes) => (preemptBytes += bytes.length))
        void join(source, destination.uri).then(() => main && join(main, destination.uri))
      }
    })
    const here = running()
    const source = migrateTo(uri, here, { capabilities, postcopyAtOnce: true })
    await Promise.all([source.done, destination.done])
    assert(preemptBytes > 0)
    for (const { name } of here.blocks) assert(there.content(name).equals(here.content(name)))
  })
})

describe('a source fails before it stops its guest if its preempt channel', () => {
  it('is connected and the main channel is not', async () => {
    const uri = await proxyOf(() => undefined)
    await assertStays(uri, /sent nothing on the main channel within 1500 ms/)
  })

  it('is not accepted by the destination', async () => {
    const destination = await listenFor(new TestMachine({ blocks }), { capabilities: postcopy })
    await assertStays(destination.uri, /closed the connection/)
  })

  it('is closed by the network', async () => {
    const destination = await FakeDestination.listen()
    const uri = await proxyOf((source, index) => {
      if (index === 0) void join(source, destination.uri)
      else source.destroy()
    })
    await assertStays(uri, /closed the connection/)
  })
})

/**
 * Connections that are not of the source: silent, closing, sending garbage, a thousand of them.
 */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { join } from 'node:path'
import net from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Destination } from '../../src/destination/destination.js'
import type { Migration } from '../../src/migration/migration.js'
import { Park } from '../../src/park/index.js'
import * as stream from '../../src/stream/index.js'
import { temporaryFolder } from '../cli/support.js'
import { cleanups } from '../support/cleanup.js'
import {
  FakeSource,
  allPages,
  discardAll,
  packageOf,
  part,
  portOf,
  prologue,
  ramEnd,
} from '../support/fake-peer.js'
import { ended, listenFor, migrateTo, postcopy, reached } from '../support/migration.js'
import { TestMachine, type TestMachineOptions } from '../support/test-machine.js'

const blocks = { ram: 2 ** 18, vram: 2 ** 16 }

/** A connection on which the test sends. */
async function connect(uri: string): Promise<net.Socket> {
  const socket = uri.startsWith('unix:')
    ? net.connect(uri.slice('unix:'.length))
    : net.connect(portOf(uri), '127.0.0.1')
  cleanups.add(() => socket.destroy())
  socket.on('error', () => undefined)
  await once(socket, 'connect')
  socket.resume()
  return socket
}

/** Waits until the other end has closed or reset the connection. */
async function hangsUp(socket: net.Socket): Promise<void> {
  if (!socket.closed) await once(socket, 'close')
}

/** The code of the next rejected connection. */
async function refusal(migration: Migration): Promise<string> {
  const [error] = (await once(migration, 'refused')) as [{ code: string }]
  return error.code
}

/** More than one batch of pages. */
const manyPages = { blocks: { ram: 8 * 2 ** 20 } }

function filled(options: TestMachineOptions = { blocks }): TestMachine {
  const machine = new TestMachine(options)
  machine.fill()
  return machine
}

/** The real source connects, and its migration is not affected by the others. */
async function assertMigrates(destination: Destination, there: TestMachine): Promise<void> {
  const here = filled()
  here.start()
  const source = migrateTo(destination.uri, here, { capabilities: postcopy, postcopyAtOnce: true })
  await Promise.all([source.done, destination.done])
  assert.equal(there.running, true)
  for (const { name } of here.blocks) assert(there.content(name).equals(here.content(name)))
}

/** Longer than a source takes on a busy host. */
const impatient = { 'x-handshake-timeout': 2000 } as const

const configuration = stream.encode((out) => {
  stream.encodeFileHeader(out)
  stream.encodeConfiguration(out, 'test')
})

const strangers: [string, string, object, (socket: net.Socket) => void][] = [
  ['closes at once', 'ERR_CONNECTION_CLOSED', {}, (socket) => socket.end()],
  ['resets the connection', 'ECONNRESET', {}, (socket) => socket.resetAndDestroy()],
  ['sends nothing', 'ETIMEDOUT', impatient, () => undefined],
  [
    'sends half of the first bytes, and then nothing',
    'ETIMEDOUT',
    impatient,
    (socket) => socket.write('QE'),
  ],
  ['sends the file header and closes', 'ERR_CONNECTION_CLOSED', {}, (socket) => socket.end('QEVM')],
  [
    'sends the file header, and then nothing',
    'ETIMEDOUT',
    impatient,
    (socket) => socket.write('QEVM'),
  ],
  [
    'sends the file header and garbage',
    'ERR_CONNECTION_STRANGER',
    {},
    (socket) => socket.write('QEVM or not'),
  ],
  [
    'sends a machine type and closes',
    'ERR_CONNECTION_CLOSED',
    {},
    (socket) => socket.end(configuration),
  ],
  [
    'sends a machine type, and then nothing',
    'ETIMEDOUT',
    impatient,
    (socket) => socket.write(configuration),
  ],
  ['sends another protocol', 'ERR_CONNECTION_STRANGER', {}, (socket) => socket.write('GET /')],
  [
    'sends a recovery without a paused migration',
    'ERR_CONNECTION_STRANGER',
    {},
    (socket) => socket.write(stream.encode((out) => stream.encodeRecvBitmapRequest(out, 'ram'))),
  ],
]

describe('a stranger that connects first', () => {
  for (const [what, code, parameters, act] of strangers) {
    it(`and ${what} is rejected, and the source is accepted`, async () => {
      const there = new TestMachine({ blocks })
      const destination = await listenFor(there, { capabilities: postcopy, parameters })
      const refused = refusal(destination)
      act(await connect(destination.uri))
      assert.equal(await refused, code)
      assert.equal(destination.state, 'setup')
      await assertMigrates(destination, there)
    })
  }

  it('and stays silent does not delay the source, and is closed when the source connects', async () => {
    const there = new TestMachine({ blocks })
    const destination = await listenFor(there, { capabilities: postcopy })
    const stranger = await connect(destination.uri)
    await Promise.all([assertMigrates(destination, there), hangsUp(stranger)])
  })

  it('and sends nothing is not rejected if x-handshake-timeout is 0', async () => {
    const there = new TestMachine({ blocks })
    const parameters = { 'x-handshake-timeout': 0 }
    const destination = await listenFor(there, { capabilities: postcopy, parameters })
    const refused: string[] = []
    destination.on('refused', ({ code }) => refused.push(code))
    const silent = await connect(destination.uri)
    const another = await connect(destination.uri)
    another.write('GET /')
    await hangsUp(another)
    await Promise.all([assertMigrates(destination, there), hangsUp(silent)])
    assert.deepEqual(refused, ['ERR_CONNECTION_STRANGER'])
  })

  it('and waits does not become the preempt channel', async () => {
    const there = new TestMachine({ blocks })
    const capabilities = { ...postcopy, 'postcopy-preempt': true }
    const destination = await listenFor(there, { capabilities })
    const stranger = await connect(destination.uri)
    const here = filled()
    here.start()
    const source = migrateTo(destination.uri, here, { capabilities, postcopyAtOnce: true })
    await Promise.all([source.done, destination.done, hangsUp(stranger)])
    for (const { name } of here.blocks) assert(there.content(name).equals(here.content(name)))
  })

  it('with a thousand others does not displace the source; the newest ones stay connected', async () => {
    const most = 16
    const there = new TestMachine({ blocks })
    const destination = await listenFor(there, { capabilities: postcopy })
    const refused: string[] = []
    destination.on('refused', ({ code }) => refused.push(code))
    const all: net.Socket[] = []
    for (let count = 1; count <= 1000; count += 1) {
      all.push(await connect(destination.uri))
      // At most as many at a time as an ordinary user's process may have open.
      if (count % 100 === 0) await Promise.all(all.slice(0, -most).map(hangsUp))
    }
    assert.equal(all.filter((socket) => !socket.closed).length, most)
    await assertMigrates(destination, there)
    await Promise.all(all.map(hangsUp))
    assert.deepEqual(new Set(refused), new Set(['ERR_CONNECTION_CROWDED']))
    // The source takes a place like the others until it has identified itself.
    assert([1000 - most, 1001 - most].includes(refused.length), `${refused.length} were refused`)
  })

  it('to a park is rejected, and the source is parked', async () => {
    const folder = await temporaryFolder()
    const park = await Park.listen({
      uri: `unix:${join(folder, 'socket')}`,
      directory: join(folder, 'vm'),
    })
    cleanups.add(() => park.close())
    const uri = park.uri ?? ''
    const refused = refusal(park)
    const first = await connect(uri)
    first.write('GET /')
    assert.equal(await refused, 'ERR_CONNECTION_STRANGER')
    const silent = await connect(uri)
    const source = migrateTo(uri, filled(), { capabilities: postcopy, postcopyAtOnce: true })
    await Promise.all([source.done, park.done, hangsUp(first), hangsUp(silent)])
  })
})

describe('a channel of multifd', () => {
  const multifd = stream.encode((out) => out.u32(stream.MULTIFD_MAGIC).u32(1))

  it('that sends data before the source is recognized, and park names the capability to turn off', async () => {
    const folder = await temporaryFolder()
    const directory = join(folder, 'vm')
    const park = await Park.listen({ uri: 'tcp:127.0.0.1:0', directory })
    cleanups.add(() => park.close())
    const machine = filled()
    const main = await FakeSource.connect(park.uri ?? '', machine)
    const further = await connect(park.uri ?? '')
    const refused: string[] = []
    park.on('refused', ({ code }) => refused.push(code))
    further.write(multifd)
    // A rejected connection would be rejected at once; there is nothing else to wait for.
    await sleep(50)
    main.send(prologue(machine, { postcopy: false }))
    await Promise.all([ended(park), hangsUp(further)])
    assert.match(park.error?.message ?? '', /capability multifd/)
    assert.deepEqual(refused, [])
  })

  it('without a source is rejected after a timeout', async () => {
    const there = new TestMachine({ blocks })
    const destination = await listenFor(there, { capabilities: postcopy, parameters: impatient })
    const refused = refusal(destination)
    const further = await connect(destination.uri)
    further.write(multifd)
    assert.equal(await refused, 'ETIMEDOUT')
    await Promise.all([assertMigrates(destination, there), hangsUp(further)])
  })
})

describe('a preempt channel', () => {
  it('that connects and stays silent before the source identifies itself is accepted', async () => {
    const sent = filled()
    const there = new TestMachine({ blocks })
    const capabilities = { ...postcopy, 'postcopy-preempt': true }
    const destination = await listenFor(there, { capabilities })
    const main = await FakeSource.connect(destination.uri, there)
    const preempt = await connect(destination.uri)
    main.send(prologue(sent))
    await main.heard('pong', 1)
    main.send(discardAll(sent))
    main.send(packageOf(sent))
    await reached(destination, 'postcopy-active')
    // All pages have been placed except one, which arrives on the preempt channel.
    const page = sent.content('ram').subarray(4096, 8192)
    main.send(ramEnd((out) => allPages(sent, (name, at) => name !== 'ram' || at !== 4096)(out)))
    main.send(stream.encodeEndOfStream)
    preempt.write(stream.encode((out) => stream.encodeRamPage(out, 'ram', 4096, page)))
    await destination.done
    assert(there.content('ram').equals(sent.content('ram')))
  })
})

describe('a stranger at a recovery', () => {
  const cases: [string, string, (socket: net.Socket) => void][] = [
    ['that closes', 'ERR_CONNECTION_CLOSED', (socket) => socket.end()],
    [
      'that sends the first bytes of a recovery and closes',
      'ERR_CONNECTION_CLOSED',
      (socket) => socket.end(Buffer.from('08000a', 'hex')),
    ],
    [
      'that requests the bitmap of an unknown block',
      'ERR_CONNECTION_STRANGER',
      (socket) => socket.write(stream.encode((out) => stream.encodeRecvBitmapRequest(out, 'rom'))),
    ],
    [
      'that begins a migration',
      'ERR_CONNECTION_STRANGER',
      (socket) => socket.write(stream.encode(stream.encodeFileHeader)),
    ],
  ]
  for (const [who, code, act] of cases) {
    it(`${who} is rejected, and the destination still waits for the recovery`, async () => {
      const here = filled(manyPages)
      here.start()
      const there = new TestMachine(manyPages)
      const parameters = { 'max-postcopy-bandwidth': 1 }
      const destination = await listenFor(there, { capabilities: postcopy })
      const source = migrateTo(destination.uri, here, {
        capabilities: postcopy,
        parameters,
        postcopyAtOnce: true,
      })
      await Promise.all([source, destination].map((end) => reached(end, 'postcopy-active')))
      source.pause()
      await Promise.all([ended(source), ended(destination)])

      const uri = await destination.recover()
      const refused = refusal(destination)
      act(await connect(uri))
      assert.equal(await refused, code)
      assert.equal(destination.state, 'postcopy-recover-setup')
      source.setParameters({ 'max-postcopy-bandwidth': 0 })
      await source.recover(uri)
      await Promise.all([source.done, destination.done])
      for (const { name } of here.blocks) assert(there.content(name).equals(here.content(name)))
    })
  }
})

describe('a source that sends requests and does not read the answers', () => {
  const few = { 'x-max-unread-bytes': 65_536 } as const
  const pings = stream.encode((out) => {
    for (let i = 0; i < 100_000; i += 1) stream.encodePing(out, i)
  })

  /** Sends pings until the migration is over. */
  async function ask(source: FakeSource, destination: Destination): Promise<void> {
    source.deafen()
    const over = ended(destination)
    const isOver = over.then(() => true)
    const soon = (): Promise<boolean> =>
      new Promise((resolve) => setImmediate(() => resolve(false)))
    while (!(await Promise.race([isOver, soon()]))) await source.sendAll(pings)
  }

  it('fails the destination before the switch', async () => {
    const there = new TestMachine({ blocks })
    const destination = await listenFor(there, { capabilities: postcopy, parameters: few })
    const source = await FakeSource.connect(destination.uri, there)
    source.send(prologue(filled()))
    await ask(source, destination)
    assert.equal(destination.state, 'failed')
    assert.equal(destination.error?.code, 'ERR_PEER_UNREAD')
  })

  it('pauses the destination after the switch', async () => {
    const sent = filled()
    const there = new TestMachine({ blocks })
    const destination = await listenFor(there, { capabilities: postcopy, parameters: few })
    const source = await FakeSource.connect(destination.uri, there)
    for (const bytes of [prologue(sent), part(allPages(sent)), discardAll(sent), packageOf(sent)]) {
      source.send(bytes)
    }
    await reached(destination, 'postcopy-active')
    await ask(source, destination)
    assert.equal(destination.state, 'postcopy-paused')
    assert.equal(destination.error?.code, 'ERR_PEER_UNREAD')
    assert.equal(there.running, true)
  })
})

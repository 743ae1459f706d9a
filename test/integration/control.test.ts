/** Starting, switching, cancelling and refusing, and the sequence of states on both sides. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import net from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Destination } from '../../src/destination/destination.js'
import type { PostcopyError } from '../../src/errors.js'
import { Source } from '../../src/source/source.js'
import { cleanups } from '../support/cleanup.js'
import { temporaryFolder } from '../cli/support.js'
import { FakeDestination, portOf } from '../support/fake-peer.js'
import {
  ended,
  guestPair,
  listenFor,
  migratePair,
  migrateTo,
  type PairOptions,
  postcopy,
  reached,
  startPair,
  statesOf,
} from '../support/migration.js'
import { TestMachine } from '../support/test-machine.js'

/** One batch, and then nothing until the limit is raised. */
const standstill = { 'max-bandwidth': 1 } as const
const blocks = { ram: 2 ** 21 }

function machines(): { here: TestMachine; there: TestMachine } {
  const here = new TestMachine({ blocks })
  here.fill()
  here.start()
  return { here, there: new TestMachine({ blocks }) }
}

/**
 * A proxy that forwards a source's data only while this thread's event loop turns. At other times
 * at most a socket buffer passes.
 *
 * @returns the URI by which the source reaches the destination
 */
async function throughThisThread(uri: string): Promise<string> {
  const path = join(await temporaryFolder(), 'through')
  const server = net.createServer((socket) => {
    const onward = net.connect(portOf(uri), '127.0.0.1')
    for (const one of [socket, onward]) {
      one.on('error', () => undefined)
      cleanups.add(() => one.destroy())
    }
    socket.pipe(onward).pipe(socket)
  })
  server.listen(path)
  cleanups.add(() => server.close())
  await once(server, 'listening')
  return `unix:${path}`
}

/** A machine that writes all of its memory in each round of precopy. */
async function migrateWriting(parameters: PairOptions['parameters'] = {}) {
  // A round is more than one turn of the event loop forwards.
  const large = { blocks: { ram: 2 ** 24 } }
  const here = new TestMachine(large)
  here.fill()
  here.start()
  const pair = await startPair(here, new TestMachine(large), {
    capabilities: postcopy,
    parameters: { 'downtime-limit': 0, ...parameters },
    via: throughThisThread,
  })
  pair.source.on('dirty-sync', (pass) => {
    if (here.running) here.fill(pass + 1)
  })
  return pair
}

const precopyStates = {
  source: ['none', 'setup', 'active', 'device', 'completed'],
  destination: ['setup', 'active', 'completed'],
}
const postcopyStates = {
  source: ['none', 'setup', 'active', 'device', 'postcopy-device', 'postcopy-active', 'completed'],
  destination: ['setup', 'active', 'postcopy-device', 'postcopy-active', 'completed'],
}

describe('the states of both sides', () => {
  it('in precopy, without a return path', async () => {
    const { here, there } = machines()
    const { states } = await migratePair(here, there)
    assert.deepEqual(states, precopyStates)
  })

  it('in precopy, with a return path', async () => {
    const { here, there } = machines()
    const capabilities = { 'return-path': true }
    const { states } = await migratePair(here, there, { capabilities })
    assert.deepEqual(states, precopyStates)
  })

  it('in a precopy with postcopy-ram on', async () => {
    const { here, there } = machines()
    const { states, destination } = await migratePair(here, there, { capabilities: postcopy })
    assert.deepEqual(states, precopyStates)
    assert.equal(destination.counters.discardedPages, 0)
  })

  it('in postcopy', async () => {
    const { here, there } = machines()
    const { states } = await migratePair(here, there, { capabilities: postcopy, now: true })
    assert.deepEqual(states, postcopyStates)
  })

  it('over a unix socket', async () => {
    const { here, there } = machines()
    const path = join(tmpdir(), `postcopy-test-${String(process.pid)}.sock`)
    const destination = { uri: `unix:${path}` }
    const { states } = await migratePair(here, there, {
      capabilities: postcopy,
      now: true,
      destination,
    })
    assert.deepEqual(states, postcopyStates)
  })

  it("with the capability under QEMU's first name, x-postcopy-ram", async () => {
    const { here, there } = machines()
    const capabilities = { 'x-postcopy-ram': true } as object
    const { states } = await migratePair(here, there, { capabilities, now: true })
    assert.deepEqual(states, postcopyStates)
  })
})

describe('capabilities that differ', () => {
  for (const [who, source, destination, code] of [
    ['source', postcopy, {}, 'ERR_PEER_REFUSED'],
    ['destination', {}, postcopy, 'ERR_CONNECTION_CLOSED'],
  ] as const) {
    it(`are refused early if only the ${who} has postcopy-ram, and the guest continues`, async () => {
      const { here, there } = machines()
      const pair = await startPair(here, there, {
        source: { capabilities: source, parameters: standstill },
        destination: { capabilities: destination },
      })
      await Promise.all([ended(pair.source), ended(pair.destination)])
      assert.deepEqual([pair.source.state, pair.destination.state], ['failed', 'failed'])
      assert.equal(pair.destination.error?.code, 'ERR_PEER_CAPABILITY')
      assert.match(pair.destination.error.message, /set it to the same value on both ends/)
      assert.equal(pair.source.error?.code, code)
      assert.deepEqual([here.running, here.stops, there.starts], [true, 0, 0])
      const fresh = machines().here
      assert(here.content('ram').equals(fresh.content('ram')), 'its memory is unchanged')
    })
  }

  it('are not accepted under any other name', () => {
    const { here } = machines()
    const uri = 'tcp:127.0.0.1:1'
    const capabilities = { multifd: true } as object
    assert.throws(() => Source.migrate(here, { uri, capabilities }), {
      code: 'ERR_UNKNOWN_CAPABILITY',
      message: /no capability "multifd"; there are: postcopy-ram,/,
    })
  })
})

describe('start-postcopy', () => {
  it('is refused without the capability, and the migration continues', async () => {
    const { here, there } = machines()
    const { source, destination } = await startPair(here, there)
    assert.throws(() => source.startPostcopy(), { code: 'ERR_STATE_POSTCOPY_OFF' })
    await Promise.all([source.done, destination.done])
  })

  it('is valid at any time, for any remaining memory, and twice', async () => {
    const { here, there } = machines()
    const { source, destination } = await startPair(here, there, {
      capabilities: postcopy,
      parameters: standstill,
    })
    await reached(source, 'active')
    source.startPostcopy()
    source.startPostcopy()
    await Promise.all([source.done, destination.done])
    assert(source.counters.discardedPages > 0)
    assert(here.content('ram').equals(there.content('ram')))
  })

  it('is harmless after the end', async () => {
    const { here, there } = machines()
    const { source, states } = await migratePair(here, there, { capabilities: postcopy, now: true })
    source.startPostcopy()
    assert.deepEqual(states, postcopyStates)
  })

  it('happens automatically after a time', async () => {
    const { here, there } = machines()
    const { states } = await migratePair(here, there, {
      capabilities: postcopy,
      parameters: { ...standstill, 'x-postcopy-after-ms': 1 },
    })
    assert.deepEqual(states, postcopyStates)
  })

  it('happens automatically after a number of rounds', async () => {
    const { here, there, source, destination } = await migrateWriting({
      'x-postcopy-after-rounds': 3,
    })
    await Promise.all([source.done, destination.done])
    // One sync at the start, one after each round, one after the guest has stopped.
    assert.equal(source.counters.dirtySyncCount, 5)
    assert(source.counters.discardedPages > 0)
    assert(here.content('ram').equals(there.content('ram')))
  })

  it('does not happen automatically if the capability is off', async () => {
    const { here, there } = machines()
    const { states } = await migratePair(here, there, {
      parameters: { 'x-postcopy-after-ms': 1, 'x-postcopy-after-rounds': 1 },
    })
    assert.deepEqual(states, precopyStates)
  })
})

describe('a guest that writes faster than its pages are sent', () => {
  it('does not converge with a downtime limit of 0; postcopy completes it', async () => {
    const { here, there, source, destination } = await migrateWriting()
    await new Promise<void>((resolve, reject) => {
      source.on('dirty-sync', (pass) => {
        if (pass > 5) resolve()
      })
      source.done.then(() => reject(new Error('it converged')), reject)
    })
    assert.equal(source.state, 'active')
    source.startPostcopy()
    await Promise.all([source.done, destination.done])
    assert(source.counters.discardedPages > 0)
    assert(here.content('ram').equals(there.content('ram')))
  })

  it('converges if the remaining pages fit the downtime limit', async () => {
    const { here, there } = await guestPair({ ram: '4M', workload: 'sweep:writes=100' })
    here.start()
    const { destination, states } = await migratePair(here, there, {
      parameters: { 'downtime-limit': 60_000 },
    })
    assert.deepEqual(states, precopyStates)
    assert.equal(destination.counters.faults, 0)
    await there.stop()
    assert.equal((await there.verify()).verified, true)
  })
})

describe('cancel', () => {
  it('in setup leaves the guest running', async () => {
    const { here } = machines()
    const peer = await FakeDestination.listen()
    const source = migrateTo(peer.uri, here)
    const states = statesOf(source)
    source.cancel()
    await ended(source)
    assert.equal(source.state, 'cancelled')
    assert.equal(source.error?.code, 'ABORT_ERR')
    assert.deepEqual(states.slice(-2), ['cancelling', 'cancelled'])
    assert.deepEqual([here.running, here.stops], [true, 0])
    await assert.rejects(source.done, { code: 'ABORT_ERR' })
  })

  it('in active leaves the guest running, and the destination fails', async () => {
    const { here, there } = machines()
    const { source, destination, states } = await startPair(here, there, {
      capabilities: postcopy,
      parameters: standstill,
    })
    await reached(source, 'active')
    await reached(destination, 'active')
    source.cancel()
    await Promise.all([ended(source), ended(destination)])
    assert.deepEqual(states.source, ['none', 'setup', 'active', 'cancelling', 'cancelled'])
    assert.deepEqual(states.destination, ['setup', 'active', 'failed'])
    assert.deepEqual([here.running, here.stops, there.starts], [true, 0, 0])
  })

  it('while the guest is being stopped resumes it', async () => {
    const { here, there } = machines()
    let stopped: () => void = () => undefined
    const isStopping = new Promise<void>((resolve) => {
      const stop = here.stop.bind(here)
      here.stop = async () => {
        resolve()
        await new Promise<void>((go) => (stopped = go))
        await stop()
      }
    })
    const { source, destination, states } = await startPair(here, there)
    await isStopping
    await reached(source, 'device')
    source.cancel()
    stopped()
    await Promise.all([ended(source), ended(destination)])
    assert.deepEqual(states.source.slice(-3), ['device', 'cancelling', 'cancelled'])
    assert.deepEqual([here.running, here.stops, here.starts], [true, 1, 2])
    assert.equal(there.starts, 0)
  })

  it('is refused once the destination may run the guest', async () => {
    const { here, there } = machines()
    const { source, destination } = await startPair(here, there, {
      capabilities: postcopy,
      parameters: { 'max-postcopy-bandwidth': 1 },
    })
    source.startPostcopy()
    await reached(source, 'postcopy-active')
    assert.throws(() => source.cancel(), { code: 'ERR_STATE_CANCEL' })
    source.setParameters({ 'max-postcopy-bandwidth': 0 })
    await Promise.all([source.done, destination.done])
  })

  it('works by an AbortSignal, also by one that was aborted before', async () => {
    const { here } = machines()
    const peer = await FakeDestination.listen()
    const controller = new AbortController()
    const source = migrateTo(peer.uri, here, {
      signal: controller.signal,
      parameters: standstill,
    })
    await reached(source, 'active')
    controller.abort()
    await ended(source)
    assert.equal(source.state, 'cancelled')
    const other = await FakeDestination.listen()
    const late = migrateTo(other.uri, here, { signal: AbortSignal.abort() })
    await ended(late)
    assert.equal(late.state, 'cancelled')
    assert.equal(here.running, true)
  })

  it('leaves a paused guest paused', async () => {
    const { here, there } = machines()
    await here.stop()
    const { source } = await startPair(here, there, { parameters: standstill })
    await reached(source, 'active')
    source.cancel()
    await ended(source)
    assert.equal(here.running, false)
  })
})

describe('a connection', () => {
  it('that no destination accepts fails the migration, with the guest running', async () => {
    const { here } = machines()
    const source = migrateTo('tcp:127.0.0.1:1', here)
    const states = statesOf(source)
    await assert.rejects(source.done, {
      code: 'ECONNREFUSED',
      message: /cannot connect to tcp:127.0.0.1:1: .*is a destination listening there/,
    })
    assert.deepEqual(states, ['none', 'setup', 'failed'])
    assert.deepEqual([here.running, here.stops], [true, 0])
  })

  it('to a missing socket fails', async () => {
    const { here } = machines()
    const source = migrateTo(`unix:${join(tmpdir(), 'postcopy-no-such.sock')}`, here)
    await assert.rejects(source.done, { code: 'ENOENT' })
  })

  it('that is not answered in time fails', async () => {
    const { here } = machines()
    // TEST-NET-1: no host answers, and some networks report that at once.
    const source = migrateTo('tcp:192.0.2.1:4444', here, { parameters: { 'x-timeout': 50 } })
    await ended(source)
    assert.equal(source.state, 'failed')
    assert.match(source.error?.code ?? '', /^(ETIMEDOUT|E(NET|HOST)UNREACH|ECONNREFUSED|EACCES)$/)
    assert.equal(here.running, true)
  })

  it('cannot be accepted on a port that is in use', async () => {
    const { there } = machines()
    const server = net.createServer().listen(0, '127.0.0.1')
    cleanups.add(() => server.close())
    await once(server, 'listening')
    const address = server.address()
    assert(typeof address === 'object' && address !== null)
    await assert.rejects(
      Destination.listen(there, { uri: `tcp:127.0.0.1:${String(address.port)}` }),
      {
        code: 'EADDRINUSE',
      },
    )
  })

  it('with an invalid URI is refused', async () => {
    const { here, there } = machines()
    assert.throws(() => Source.migrate(here, { uri: 'ftp:host' }), { code: 'ERR_INVALID_URI' })
    await assert.rejects(Destination.listen(there, { uri: 'tcp:h:70000' }), {
      code: 'ERR_INVALID_URI',
    })
  })

  it('that another process resets at once does no harm', async () => {
    const { there } = machines()
    const destination = await listenFor(there)
    const port = Number(destination.uri.split(':').pop())
    const socket = net.connect(port, '127.0.0.1')
    await once(socket, 'connect')
    const refused = once(destination, 'refused')
    socket.resetAndDestroy()
    const [{ code }] = (await refused) as [PostcopyError]
    assert.match(code, /^(ECONNRESET|ERR_CONNECTION_CLOSED)$/)
    assert.equal(destination.state, 'setup')
  })

  it('that is never made can be cancelled', async () => {
    const { there } = machines()
    const destination = await listenFor(there)
    assert.equal(destination.state, 'setup')
    await destination.close()
    await assert.rejects(once(net.connect(Number(destination.uri.split(':').pop())), 'connect'))
  })
})

describe('a migration that is closed before its end', () => {
  it('leaves the guest at the source, and the memory usable for the next migration', async () => {
    const { here, there } = machines()
    const first = await startPair(here, new TestMachine({ blocks }), { parameters: standstill })
    await reached(first.source, 'active')
    await first.source.close()
    assert.equal(here.running, true)
    await migratePair(here, there, { capabilities: postcopy, now: true })
    assert.equal(there.running, true)
  })
})

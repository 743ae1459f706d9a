/** When a migration switches to postcopy: on command, automatically, or not at all. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import net from 'node:net'
import { join } from 'node:path'
import { temporaryFolder } from '../cli/support.js'
import { cleanups } from '../support/cleanup.js'
import { portOf } from '../support/fake-peer.js'
import { machines } from '../support/machine-pair.js'
import {
  type PairOptions,
  guestPair,
  migratePair,
  postcopy,
  postcopyStates,
  precopyStates,
  reached,
  standstill,
  startPair,
} from '../support/migration.js'
import { TestMachine } from '../support/test-machine.js'

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

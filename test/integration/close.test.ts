/**
 * What `close()` and `takeBack()` end: `done` settles, the last events are sent,
 * nothing stays in use.
 */
import assert from 'node:assert/strict'
import { getEventListeners } from 'node:events'
import { join } from 'node:path'
import type { Migration } from '../../src/migration/migration.js'
import { Park } from '../../src/park/index.js'
import { temporaryFolder } from '../cli/support.js'
import { cleanups } from '../support/cleanup.js'
import {
  type Pair,
  type PairOptions,
  ended,
  listenFor,
  migratePair,
  postcopy,
  reached,
  startPair,
  statesOf,
} from '../support/migration.js'
import { machines } from '../support/machine-pair.js'
import type { TestMachine } from '../support/test-machine.js'

const blocks = { ram: 2 ** 20 }
/** Precopy makes no progress; after the switch only the first batch arrives. */
const slow = { 'max-bandwidth': 1, 'max-postcopy-bandwidth': 1 } as const

async function begin(options: PairOptions = {}): Promise<Pair<TestMachine>> {
  const { here, there } = machines(blocks)
  const pair = await startPair(here, there, {
    capabilities: postcopy,
    parameters: slow,
    ...options,
  })
  await reached(pair.source, 'active')
  return pair
}

async function inPostcopy(): Promise<Pair<TestMachine>> {
  const pair = await begin()
  pair.source.startPostcopy()
  await Promise.all([
    reached(pair.source, 'postcopy-active'),
    reached(pair.destination, 'postcopy-active'),
  ])
  return pair
}

async function paused(): Promise<Pair<TestMachine>> {
  const pair = await inPostcopy()
  pair.source.pause()
  await Promise.all([
    reached(pair.source, 'postcopy-paused'),
    reached(pair.destination, 'postcopy-paused'),
  ])
  return pair
}

async function assertClosed(migration: Migration, code = 'ERR_CLOSED'): Promise<void> {
  await assert.rejects(migration.done, { code })
}

describe('close()', () => {
  it('of a source in precopy sends the last event, rejects done, and leaves the guest', async () => {
    const { source, destination, states, here } = await begin()
    const closed = source.close()
    await assertClosed(source)
    await closed
    assert.equal(states.source.at(-1), 'failed')
    assert.equal(source.error?.code, 'ERR_CLOSED')
    assert.equal(here.running, true)
    await ended(destination)
  })

  it('of a destination that listens sends the last event and rejects done', async () => {
    const destination = await listenFor(machines(blocks).there)
    const states = statesOf(destination)
    await destination.close()
    await assertClosed(destination)
    assert.deepEqual([states.at(-1), destination.error?.code], ['failed', 'ERR_CLOSED'])
  })

  for (const end of ['source', 'destination'] as const) {
    it(`of a ${end} in postcopy sends postcopy-paused and rejects done`, async () => {
      const pair = await inPostcopy()
      await pair[end].close()
      await assertClosed(pair[end])
      assert.equal(pair.states[end].at(-1), 'postcopy-paused')
      assert.equal(pair[end].error?.code, 'ERR_CLOSED')
    })

    it(`of a ${end} that is paused rejects done and later recover() calls`, async () => {
      const { [end]: migration } = await paused()
      const closing = migration.close()
      await assert.rejects(migration.recover(), { code: 'ERR_CLOSED' })
      await closing
      await assertClosed(migration)
      await assert.rejects(migration.recover(), { code: 'ERR_CLOSED' })
      await migration.close()
    })

    it(`of a ${end} that starts a recovery rejects recover(), too`, async () => {
      const { [end]: migration } = await paused()
      const recovering = assert.rejects(migration.recover(), { code: 'ERR_CLOSED' })
      await migration.close()
      await recovering
      await assertClosed(migration)
    })

    it(`of a ${end} that is complete changes nothing`, async () => {
      const { here, there } = machines(blocks)
      const { [end]: migration, states } = await migratePair(here, there)
      const before = [...states[end]]
      await migration.close()
      await migration.done
      assert.deepEqual(states[end], before)
    })
  }

  it('of a destination that recovers rejects done, with the guest paused', async () => {
    const { destination, states } = await paused()
    await destination.recover()
    await destination.close()
    await assertClosed(destination)
    assert.equal(states.destination.at(-1), 'postcopy-paused')
  })

  it('of a park that listens rejects done', async () => {
    const folder = await temporaryFolder()
    const directory = join(folder, 'vm')
    const park = await Park.listen({ uri: 'tcp:127.0.0.1:0', directory })
    cleanups.add(() => park.close())
    const states = statesOf(park)
    await park.close()
    await assertClosed(park)
    assert.equal(states.at(-1), 'failed')
  })

  it('is not stopped by a listener that throws', async () => {
    const { source, destination } = await begin()
    const thrown = new Error('thrown by a listener')
    const caught = uncaught()
    source.on('state', () => {
      throw thrown
    })
    await source.close()
    await assertClosed(source)
    assert.equal(await caught, thrown)
    await ended(destination)
  })
})

describe('takeBack()', () => {
  it('rejects done with its own code, and later recover() calls', async () => {
    const { source } = await paused()
    source.takeBack()
    await assertClosed(source, 'ERR_TAKEN_BACK')
    await assert.rejects(source.recover(), { code: 'ERR_TAKEN_BACK' })
    await source.close()
  })
})

describe('an AbortSignal', () => {
  const listeners = (signal: AbortSignal): number => getEventListeners(signal, 'abort').length

  it('has no listener after the migration has ended', async () => {
    const { signal } = new AbortController()
    const { here, there } = machines(blocks)
    await migratePair(here, there, { source: { signal } })
    assert.equal(listeners(signal), 0)
  })

  it('has no listener after the migration was closed or paused', async () => {
    const { signal } = new AbortController()
    const { source, destination } = await begin({ source: { signal } })
    assert.equal(listeners(signal), 1)
    await source.close()
    assert.equal(listeners(signal), 0)
    await ended(destination)
    const other = await begin({ source: { signal } })
    other.source.startPostcopy()
    await reached(other.source, 'postcopy-active')
    other.source.pause()
    await reached(other.source, 'postcopy-paused')
    assert.equal(listeners(signal), 0)
  })
})

/** The next uncaught exception, which mocha would otherwise handle. */
async function uncaught(): Promise<unknown> {
  const before = process.listeners('uncaughtException')
  process.removeAllListeners('uncaughtException')
  const restore = (): void => {
    process.removeAllListeners('uncaughtException')
    for (const listener of before) process.on('uncaughtException', listener)
  }
  cleanups.add(restore)
  return new Promise((resolve) => {
    process.on('uncaughtException', (error) => {
      restore()
      resolve(error)
    })
  })
}

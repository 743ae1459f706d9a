/** A migration that is cancelled or closed before its end: the guest stays at the source. */
import assert from 'node:assert/strict'
import { FakeDestination } from '../support/fake-peer.js'
import { blocks, machines } from '../support/machine-pair.js'
import {
  ended,
  migratePair,
  migrateTo,
  postcopy,
  reached,
  standstill,
  startPair,
  statesOf,
} from '../support/migration.js'
import { TestMachine } from '../support/test-machine.js'

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

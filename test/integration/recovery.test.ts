/**
 * Postcopy breaks, again and again: the guest runs as far as it has pages, and nothing is lost.
 */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import type { Worker } from 'node:worker_threads'
import type { Guest } from '../../src/guest/index.js'
import { encode, encodeRecvBitmapRequest } from '../../src/stream/index.js'
import { LinkProxy, type LinkOptions } from '../../src/testing/index.js'
import { eventually } from '../guest/support.js'
import { cleanups } from '../support/cleanup.js'
import {
  type Pair,
  codeOf,
  ended,
  guestPair,
  listenFor,
  migrateTo,
  postcopy,
  reached,
  startPair,
  statesOf,
} from '../support/migration.js'

const options = { ram: '8M', vcpus: 2, workload: 'random:writes=50,rate=50000' }
/** Cuts in a row; docs/testing.md uses 200. */
const CYCLES = Number(process.env['POSTCOPY_CYCLES'] ?? 20)
/** So slow that it can be cut in the middle. */
const slow = { 'max-postcopy-bandwidth': 20 * 2 ** 20 } as const

/**
 * From this many bytes of a source, a destination knows that it recovers; until
 * then it is a stranger.
 */
const KNOWING_BYTES = encode((out) => encodeRecvBitmapRequest(out, 'ram')).length

/** In postcopy, with pages that have arrived only in it, and paused on both ends. */
async function pausedPair(
  parameters = slow,
  { workload = options.workload, pages = 0 } = {},
): Promise<Pair<Guest>> {
  const { here, there } = await guestPair({ ...options, workload })
  here.start()
  const source = { postcopyAtOnce: true }
  const pair = await startPair(here, there, { capabilities: postcopy, parameters, source })
  await Promise.all([pair.source, pair.destination].map((end) => reached(end, 'postcopy-active')))
  await eventually('so much has come', () => pair.destination.counters.normalPages >= pages)
  pair.source.pause()
  await Promise.all([ended(pair.source), ended(pair.destination)])
  return pair
}

async function linkTo(uri: string, options?: LinkOptions): Promise<LinkProxy> {
  const link = await LinkProxy.listen(uri, options)
  cleanups.add(() => link.close())
  return link
}

async function assertWhole(guest: Guest): Promise<void> {
  await guest.stop()
  const report = await guest.verify()
  assert.equal(report.verified, true, JSON.stringify(report.findings))
}

function rejectsWith(code: string): (error: unknown) => boolean {
  return (error) => error instanceof Error && 'code' in error && error.code === code
}

describe('recovery', () => {
  it('continues after a pause, with the states of QEMU', async () => {
    const { source, destination, there, states } = await pausedPair()
    const uri = await destination.recover()
    await source.recover(uri)
    await Promise.all([source.done, destination.done])
    const recovered = ['postcopy-recover-setup', 'postcopy-recover', 'postcopy-active', 'completed']
    for (const seen of [states.source, states.destination]) {
      assert.deepEqual(seen.slice(seen.indexOf('postcopy-paused') + 1), recovered)
    }
    assert.equal(there.running, true)
    await assertWhole(there)
  })

  it('works over another address and another transport', async () => {
    const { source, destination, there } = await pausedPair()
    const path = `/tmp/postcopy-recovery-${process.pid}`
    await destination.recover(`unix:${path}`)
    await source.recover(`unix:${path}`)
    await Promise.all([source.done, destination.done])
    await assertWhole(there)
  })

  it('works with the preempt channel', async () => {
    const { here, there } = await guestPair(options)
    here.start()
    const capabilities = { ...postcopy, 'postcopy-preempt': true }
    const pair = await startPair(here, there, { capabilities, parameters: slow })
    const { source, destination } = pair
    source.startPostcopy()
    await Promise.all([source, destination].map((end) => reached(end, 'postcopy-active')))
    destination.pause()
    await Promise.all([ended(source), ended(destination)])
    await source.recover(await destination.recover())
    await Promise.all([source.done, destination.done])
    await assertWhole(there)
  })

  it('leaves the guest running on its pages, and repeats the open requests', async () => {
    const { source, destination, there } = await pausedPair({ 'max-postcopy-bandwidth': 1 })
    const parked = (): number =>
      there.vcpuStats().filter(({ touching }) => (touching?.sinceUs ?? 0) > 50_000).length
    await eventually('both vCPUs wait for a page', () => parked() === 2)
    const touches = there.vcpuStats().map((vcpu) => vcpu.touches)
    // Nothing is pushed: only requested pages are sent.
    source.setParameters({ 'x-push-after-quiet-ms': 2 ** 31 })
    await source.recover(await destination.recover())
    await eventually('both continue', () =>
      there.vcpuStats().every((vcpu, index) => vcpu.touches > (touches[index] ?? 0) + 50),
    )
    source.setParameters({ 'x-push-after-quiet-ms': 0, 'max-postcopy-bandwidth': 0 })
    await Promise.all([source.done, destination.done])
    await assertWhole(there)
  })

  it('succeeds after cuts at any byte of the connection, also of a recovery', async () => {
    const { here, there } = await guestPair(options)
    here.start()
    const destination = await listenFor(there, { capabilities: postcopy })
    const link = await linkTo(destination.uri)
    const source = migrateTo(link.uri, here, { capabilities: postcopy, parameters: slow })
    source.startPostcopy()
    await Promise.all([source, destination].map((end) => reached(end, 'postcopy-active')))
    await link.cut()
    await Promise.all([ended(source), ended(destination)])
    await link.change({ target: await destination.recover() })
    for (let cutAfterBytes = 0; cutAfterBytes < KNOWING_BYTES; cutAfterBytes += 1) {
      const turnedAway = once(destination, 'refused')
      await link.change({ cutAfterBytes })
      await source.recover()
      await Promise.all([ended(source), turnedAway])
      assert.equal(destination.state, 'postcopy-recover-setup', 'it keeps listening')
    }
    destination.pause()
    let rounds = 0
    // The RECV_BITMAP of the first block has 9 bytes: these cuts are in
    // the middle of the handshake.
    for (const cutAfterBytes of [9, 10, 12, 30, 47, 48, 49, 53, 60, 5000, 70_000, 300_000]) {
      await Promise.all([ended(source), ended(destination)])
      if (source.state === 'completed') break
      assert.deepEqual([source.state, destination.state], ['postcopy-paused', 'postcopy-paused'])
      await link.change({ cutAfterBytes, target: await destination.recover() })
      await source.recover()
      await reached(source, 'postcopy-recover')
      rounds += 1
    }
    assert(rounds >= 11)
    await Promise.all([ended(source), ended(destination)])
    await link.change({ cutAfterBytes: Infinity, target: await destination.recover() })
    await source.recover()
    await Promise.all([source.done, destination.done])
    await assertWhole(there)
  })

  it(`ends verified after ${CYCLES} cuts at random bytes`, async function () {
    this.timeout(10_000 + CYCLES * 3000)
    const points = Array.from(
      { length: CYCLES },
      () => KNOWING_BYTES + Math.floor(Math.random() * 40_000),
    )
    console.log(`      cut after ${points.join(', ')} bytes`)
    const { here, there } = await guestPair(options)
    here.start()
    const destination = await listenFor(there, { capabilities: postcopy })
    const link = await linkTo(destination.uri)
    const source = migrateTo(link.uri, here, { capabilities: postcopy, parameters: slow })
    source.startPostcopy()
    await Promise.all([source, destination].map((end) => reached(end, 'postcopy-active')))
    await link.cut()
    for (const cutAfterBytes of [...points, Infinity]) {
      await Promise.all([ended(source), ended(destination)])
      assert.deepEqual([source.state, destination.state], ['postcopy-paused', 'postcopy-paused'])
      await link.change({ cutAfterBytes, target: await destination.recover() })
      await source.recover()
    }
    await Promise.all([source.done, destination.done])
    assert.equal(link.cuts, CYCLES + 1)
    await assertWhole(there)
  })

  it('is automatic with x-auto-recover', async () => {
    const { here, there } = await guestPair(options)
    here.start()
    const capabilities = { ...postcopy, 'x-auto-recover': true }
    const parameters = { ...slow, 'x-recover-delay': 20 }
    const destination = await listenFor(there, { capabilities, parameters })
    const link = await linkTo(destination.uri, { cutAfterBytes: 2 ** 20 })
    const source = migrateTo(link.uri, here, { capabilities, parameters })
    const states = statesOf(source)
    source.startPostcopy()
    await Promise.all([source.done, destination.done])
    assert(states.filter((state) => state === 'postcopy-paused').length >= 3, states.join())
    assert(link.cuts >= 3)
    await assertWhole(there)
  })
})

describe('recovery is refused', () => {
  it('if no migration is paused', async () => {
    const { here, there } = await guestPair(options)
    const { source, destination } = await startPair(here, there, { capabilities: postcopy })
    await assert.rejects(source.recover(), rejectsWith('ERR_STATE_RECOVER'))
    await assert.rejects(destination.recover(), rejectsWith('ERR_STATE_RECOVER'))
    await Promise.all([source.done, destination.done])
    await assert.rejects(source.recover(), rejectsWith('ERR_STATE_RECOVER'))
    await assert.rejects(destination.recover(), rejectsWith('ERR_STATE_RECOVER'))
  })

  it('a second time at once, by each end', async () => {
    const { source, destination, there } = await pausedPair()
    const first = destination.recover()
    await assert.rejects(destination.recover(), rejectsWith('ERR_STATE_RECOVER'))
    const uri = await first
    await assert.rejects(destination.recover(), rejectsWith('ERR_STATE_RECOVER'))
    const begun = source.recover(uri)
    await assert.rejects(source.recover(uri), rejectsWith('ERR_STATE_RECOVER'))
    await begun
    await Promise.all([source.done, destination.done])
    await assertWhole(there)
  })

  it('for an invalid address, and for a missing peer', async () => {
    const { source, destination, there } = await pausedPair()
    await assert.rejects(source.recover('carrier pigeon'), rejectsWith('ERR_INVALID_URI'))
    await assert.rejects(destination.recover('tcp:192.0.2.1:1'), rejectsWith('EADDRNOTAVAIL'))
    assert.deepEqual([source.state, destination.state], ['postcopy-paused', 'postcopy-paused'])
    await source.recover('tcp:127.0.0.1:1')
    await ended(source)
    await reached(source, 'postcopy-paused')
    assert.equal(codeOf(source), 'ECONNREFUSED')
    await source.recover(await destination.recover())
    await Promise.all([source.done, destination.done])
    await assertWhole(there)
  })

  it('by the destination of another guest; the right one is accepted afterwards', async () => {
    // Pages that the guest does not touch are never requested. So the second destination has
    // nearly no pages, and lacks the ones that the first had at its first recovery.
    const workload = 'random:hot=1M,writes=50,rate=50000'
    const one = await pausedPair({ 'max-postcopy-bandwidth': 2 ** 18 }, { workload, pages: 200 })
    const other = await pausedPair({ 'max-postcopy-bandwidth': 1 }, { workload: 'sweep:hot=64K' })
    await one.source.recover(await one.destination.recover())
    await reached(one.source, 'postcopy-active')
    one.source.pause()
    await Promise.all([ended(one.source), ended(one.destination)])
    await other.source.recover(await one.destination.recover())
    await reached(other.source, 'postcopy-paused')
    assert.equal(codeOf(other.source), 'ERR_PEER_BITMAP')
    await ended(one.destination)
    await one.source.recover(await other.destination.recover())
    await reached(one.source, 'postcopy-paused')
    assert.equal(codeOf(one.source), 'ERR_PEER_BITMAP')
    await ended(other.destination)
    for (const { source } of [one, other]) source.setParameters({ 'max-postcopy-bandwidth': 0 })
    for (const { source, destination, there } of [one, other]) {
      await source.recover(await destination.recover())
      await Promise.all([source.done, destination.done])
      await assertWhole(there)
    }
  })

  it('and can be cancelled, at both ends', async () => {
    const { source, destination, there } = await pausedPair()
    await destination.recover()
    destination.pause()
    await reached(destination, 'postcopy-paused')
    assert.equal(codeOf(destination), 'ERR_CONNECTION_PAUSED')
    await source.recover(await destination.recover())
    await Promise.all([source.done, destination.done])
    await assertWhole(there)
  })
})

describe('recovery after a worker has died', () => {
  function watchWorkers(): Worker[] {
    const workers: Worker[] = []
    const note = (worker: Worker): void => void workers.push(worker)
    process.on('worker', note)
    cleanups.add(() => process.off('worker', note))
    return workers
  }

  for (const memory of ['anon', 'memfd'] as const) {
    it(`at either end, at random moments, ${memory}`, async () => {
      // Pages that the guest does not touch are never requested, so postcopy outlasts this test.
      const workload = 'random:hot=1M,writes=50,rate=50000'
      const { here, there } = await guestPair({ ...options, workload, memory })
      here.start()
      const workers = watchWorkers()
      const parameters = { 'max-postcopy-bandwidth': 2 ** 16 }
      const pair = await startPair(here, there, { capabilities: postcopy, parameters })
      const { source, destination } = pair
      source.startPostcopy()
      for (let round = 0; round < 12; round += 1) {
        await Promise.all([source, destination].map((end) => reached(end, 'postcopy-active')))
        await new Promise((resolve) => setTimeout(resolve, Math.random() * 15))
        // Of the two latest workers, the older one is the destination's.
        await workers.at(round % 2 === 0 ? -1 : -2)?.terminate()
        await Promise.all([ended(source), ended(destination)])
        assert.deepEqual([source.state, destination.state], ['postcopy-paused', 'postcopy-paused'])
        await source.recover(await destination.recover())
      }
      source.setParameters({ 'max-postcopy-bandwidth': 0 })
      await Promise.all([source.done, destination.done])
      await assertWhole(there)
    })
  }
})

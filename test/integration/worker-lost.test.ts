/** A worker dies: which end has the guest afterwards, and is its memory whole? */
import assert from 'node:assert/strict'
import { readFileSync, readdirSync, readlinkSync } from 'node:fs'
import type { Worker } from 'node:worker_threads'
import type { Guest } from '../../src/guest/index.js'
import * as stream from '../../src/stream/index.js'
import { eventually } from '../guest/support.js'
import { FakeSource, discardAll, packageOf, part, prologue } from '../support/fake-peer.js'
import {
  ended,
  guestPair,
  listenFor,
  migratePair,
  postcopy,
  reached,
  standstill,
  startPair,
} from '../support/migration.js'
import { machines } from '../support/machine-pair.js'
import { Parked } from '../support/park.js'
import { TestMachine } from '../support/test-machine.js'
import { watchWorkers } from '../support/workers.js'

async function kill(worker: Worker | undefined): Promise<void> {
  assert(worker !== undefined)
  await worker.terminate()
}

async function goesOn(guest: Guest): Promise<void> {
  const before = guest.vcpuStats().map(({ touches }) => touches)
  await eventually('the guest continues', () =>
    guest.vcpuStats().every(({ touches }, vcpu) => touches > (before[vcpu] ?? 0) + 5000),
  )
}

/** The fdinfo of each userfaultfd of this process, by descriptor. */
function userfaultfds(): Map<string, string> {
  const link = (fd: string): string => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`)
    } catch {
      return '' // the descriptor of the list itself
    }
  }
  const fds = readdirSync('/proc/self/fd').filter((fd) => link(fd).includes('[userfaultfd]'))
  return new Map(fds.map((fd) => [fd, readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8')]))
}

/** The package is sent, and after it only the first batch of pages. */
const stuck = { 'max-postcopy-bandwidth': 1 } as const
const options = { ram: '4M', vcpus: 2, workload: 'random:writes=50,rate=50000' }

/**
 * Two guests, the first of them running, and a postcopy between them that
 * is stuck after the switch.
 */
async function stuckPostcopy() {
  const { here, there } = await guestPair(options)
  here.start()
  const workers = watchWorkers()
  const { source, destination } = await startPair(here, there, {
    capabilities: postcopy,
    parameters: stuck,
  })
  source.startPostcopy()
  return { here, there, workers, source, destination }
}

describe('a worker that dies', () => {
  for (const dirtyLog of ['async', 'sync'] as const) {
    it(`at the source, in precopy, leaves the guest running, able to migrate, ${dirtyLog}`, async () => {
      const { here, there } = await guestPair(options)
      here.start()
      const workers = watchWorkers()
      const { source, destination } = await startPair(here, there, {
        source: { dirtyLog, parameters: standstill },
      })
      await reached(source, 'active')
      await kill(workers[1])
      await Promise.all([ended(source), ended(destination)])
      assert.deepEqual([source.state, destination.state], ['failed', 'failed'])
      assert.equal(source.error?.code, 'ERR_WORKER_LOST')
      assert.equal(here.running, true)
      await goesOn(here)
      // Its memory is not in use: it can be migrated again.
      const { there: other } = await guestPair(options)
      await migratePair(here, other, { capabilities: postcopy, now: true })
      await other.stop()
      assert.equal((await other.verify()).verified, true)
    })
  }

  it('at the source, after the package, pauses both ends', async () => {
    const { here, there, workers, source, destination } = await stuckPostcopy()
    await reached(source, 'postcopy-active')
    await kill(workers[1])
    await Promise.all([ended(source), ended(destination)])
    assert.deepEqual([source.state, destination.state], ['postcopy-paused', 'postcopy-paused'])
    assert.equal(source.error?.code, 'ERR_WORKER_LOST')
    assert.deepEqual([here.running, there.running], [false, true])
    assert.equal((await here.verify()).verified, true, 'every page is kept')
  })

  it('at the destination, in precopy, leaves the guest at the source', async () => {
    const { here, there } = await guestPair(options)
    here.start()
    const workers = watchWorkers()
    const { source, destination } = await startPair(here, there, {
      capabilities: postcopy,
      parameters: standstill,
    })
    await reached(source, 'active')
    await kill(workers[0])
    await Promise.all([ended(source), ended(destination)])
    assert.deepEqual([source.state, destination.state], ['failed', 'failed'])
    assert.equal(destination.error?.code, 'ERR_WORKER_LOST')
    assert.deepEqual([here.running, there.running], [true, false])
    await goesOn(here)
  })

  it('at the destination, with vCPUs parked, loses no page of a recovery', async () => {
    const { there, workers, source, destination } = await stuckPostcopy()
    await reached(destination, 'postcopy-active')
    await kill(workers[0])
    await Promise.all([ended(source), ended(destination)])
    // Faults that occur while no worker reads them.
    const parked = () =>
      there.vcpuStats().filter(({ touching }) => (touching?.sinceUs ?? 0) > 100_000).length
    await eventually('both vCPUs are parked', () => parked() === 2)
    source.setParameters({ 'max-postcopy-bandwidth': 0 })
    await source.recover(await destination.recover())
    await Promise.all([source.done, destination.done])
    await goesOn(there)
    await there.stop()
    assert.equal((await there.verify()).verified, true)
  })

  it('at the destination, after reading a fault, has it resolved in a recovery', async () => {
    const machine = new TestMachine({ blocks: { ram: 2 ** 20 } })
    const others = userfaultfds()
    const workers = watchWorkers()
    const destination = await listenFor(machine, { capabilities: postcopy })
    const source = await FakeSource.connect(destination.uri, machine)
    source.send(prologue(machine))
    source.send(discardAll(machine))
    source.send(packageOf(machine))
    await reached(destination, 'postcopy-active')
    await kill(workers[0])
    await ended(destination)
    const parked = new Parked(machine.region('ram'), 'read', 0)
    await eventually('the fault is read', () =>
      [...userfaultfds()].some(
        ([fd, info]) => !others.has(fd) && /^pending:\s0\ntotal:\s1$/m.test(info),
      ),
    )
    const again = await FakeSource.connect(await destination.recover(), machine)
    again.send((out) => stream.encodeRecvBitmapRequest(out, 'ram'))
    again.send((out) => stream.encodeResume(out))
    await again.heard('requestPages')
    again.send(part((out) => stream.encodeRamPage(out, 'ram', 0, Buffer.alloc(4096, 7))))
    assert.equal(await parked.result, 'done')
  })

  it('at the destination, still has pages that were received as zeros placed for every thread', async () => {
    const machine = new TestMachine({ blocks: { ram: 2 ** 20 } })
    const workers = watchWorkers()
    const destination = await listenFor(machine, { capabilities: postcopy })
    const source = await FakeSource.connect(destination.uri, machine)
    source.send(prologue(machine))
    source.send(part((out) => stream.encodeRamZero(out, 'ram', 0)))
    source.send((out) => stream.encodeRamDiscard(out, 'ram', [4096, 2 ** 20 - 4096]))
    source.send(packageOf(machine))
    await reached(destination, 'postcopy-active')
    await kill(workers[0])
    await ended(destination)
    assert.equal(await new Parked(machine.region('ram'), 'read', 0).result, 'done')
  })

  it('at the destination, with the guest running, leaves vCPUs parked, and none reads zeros', async () => {
    const { here, there, workers, source, destination } = await stuckPostcopy()
    await reached(destination, 'postcopy-active')
    await kill(workers[0])
    await Promise.all([ended(source), ended(destination)])
    assert.deepEqual([source.state, destination.state], ['postcopy-paused', 'postcopy-paused'])
    const parked = () =>
      there.vcpuStats().filter(({ touching }) => (touching?.sinceUs ?? 0) > 100_000).length
    await eventually('both vCPUs are parked', () => parked() === 2)
    for (const { failedChecks } of there.vcpuStats()) assert.equal(failedChecks, 0)
    await destination.close()
    assert.equal(parked(), 2, 'not even closing wakes them')
    assert.equal((await here.verify()).verified, true, 'every page is kept')
  })
})

describe('a guest at the switch', () => {
  const blocks = { ram: 2 ** 20 }

  for (const capabilities of [{}, { 'return-path': true }, postcopy]) {
    const how = Object.keys(capabilities).join() || 'nothing'
    it(`stays where it runs if the worker dies after a precopy with ${how}`, async () => {
      const { here, there } = machines(blocks)
      const workers = watchWorkers()
      const resume = there.resumeAfterLoad.bind(there)
      there.resumeAfterLoad = () => {
        resume()
        void workers[0]?.terminate()
      }
      const { source, destination } = await startPair(here, there, { capabilities })
      await Promise.all([ended(source), ended(destination)])
      assert.deepEqual([here.running, there.running], [false, true])
      // Its state is true: the source may be started only if the destination failed.
      assert.equal(destination.state, 'completed')
    })
  }

  it('is not loaded by a destination that was closed before', async () => {
    const { here, there } = machines(blocks)
    let loads = 0
    there.loadDevice = () => {
      loads += 1
      throw new Error('no worker would place the pages that it touches')
    }
    const { source, destination } = await startPair(here, there, { capabilities: postcopy })
    let closed: Promise<void> | undefined
    destination.on('state', (state) => {
      if (state === 'postcopy-device') closed ??= destination.close()
    })
    source.startPostcopy()
    await ended(source)
    await closed
    assert.deepEqual([source.state, destination.state, loads], ['postcopy-paused', 'failed', 0])
    assert.deepEqual([here.running, there.running], [false, false])
  })

  it('stays where it was claimed, even if it does not start and the connection breaks', async () => {
    const { here, there } = machines(blocks)
    const workers = watchWorkers()
    const { source, destination } = await startPair(here, there, {
      capabilities: postcopy,
      parameters: stuck,
    })
    there.resumeAfterLoad = () => {
      void workers[1]?.terminate()
      // Keeps this thread busy until the worker has paused, and only then reports the failure.
      while (destination.counters.endedAt === 0) continue
      throw new Error('no vCPU starts')
    }
    source.startPostcopy()
    await Promise.all([ended(source), ended(destination)])
    assert.deepEqual([source.state, destination.state], ['postcopy-paused', 'postcopy-paused'])
    source.setParameters({ 'max-postcopy-bandwidth': 0 })
    await source.recover(await destination.recover())
    await source.done
    await assert.rejects(destination.done, /no vCPU starts/)
    assert.equal(destination.state, 'completed')
    assert.deepEqual(there.content('ram'), here.content('ram'))
  })

  it('stays where it was restarted while it was being stopped', async () => {
    const { here, there } = machines(blocks)
    const stop = here.stop.bind(here)
    here.stop = async () => {
      await stop()
      here.start()
    }
    const { source, destination } = await startPair(here, there, { capabilities: postcopy })
    await Promise.all([ended(source), ended(destination)])
    assert.deepEqual([source.state, destination.state], ['failed', 'failed'])
    assert.deepEqual([here.running, there.running], [true, false])
  })

  it('can be taken back only from a migration that has sent it', async () => {
    const { here, there } = machines(blocks)
    const { source, destination } = await startPair(here, there, {
      capabilities: postcopy,
      parameters: standstill,
    })
    await reached(source, 'active')
    assert.throws(() => source.takeBack(), { code: 'ERR_STATE_TAKE_BACK' })
    source.cancel()
    await Promise.all([ended(source), ended(destination)])
    assert.throws(() => source.takeBack(), { code: 'ERR_STATE_TAKE_BACK' })
  })
})

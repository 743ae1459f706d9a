/** Zero pages are left out of postcopy: they are sent only on request, and are zero at the end. */
import assert from 'node:assert/strict'
import { join } from 'node:path'
import type { Destination, DestinationOptions } from '../../src/destination/destination.js'
import { PUSH_NEVER } from '../../src/migration/options.js'
import { Park, ParkedVm, recover, resume, Spill, WorkingSet } from '../../src/park/index.js'
import { missingChecksum, PageBitmap } from '../../src/ram/index.js'
import type { Source } from '../../src/source/source.js'
import * as stream from '../../src/stream/index.js'
import { temporaryFolder } from '../cli/support.js'
import { cleanups } from '../support/cleanup.js'
import { begin, type Case, upToPackage } from '../support/destination-under-test.js'
import { allPages, FakeDestination, ramEnd } from '../support/fake-peer.js'
import { lendHugePages } from '../support/huge-pages.js'
import {
  codeOf,
  ended,
  listenFor,
  migrateTo,
  postcopy,
  reached,
  startPair,
} from '../support/migration.js'
import { Parked } from '../support/park.js'
import { requires } from '../support/requires.js'
import { TestMachine, type TestMachineOptions } from '../support/test-machine.js'

const PAGE = 4096
const PAGES = 2048
const blocks = { ram: PAGES * PAGE }
/** The pages that hold data. */
const DATA = [100, 101, 102, 1500]
/** A zero page far from them. */
const ZERO = 700
/** Nothing is pushed until the limit is raised. */
const onDemand = { 'x-push-after-quiet-ms': PUSH_NEVER }

function sparseMachine(options: TestMachineOptions = {}): TestMachine {
  const machine = new TestMachine({ blocks, ...options })
  for (const page of DATA) {
    machine.region('ram').write(page * PAGE, new Uint8Array(PAGE).fill(page % 251))
  }
  machine.start()
  return machine
}

function push(source: Source): void {
  source.setParameters({ 'x-push-after-quiet-ms': 0 })
}

/** A sparse machine in postcopy, of which nothing was pushed. */
async function started(
  options: Partial<DestinationOptions> = {},
  kind: 'anon' | 'memfd' = 'anon',
  begun: (source: Source) => void = () => undefined,
) {
  const there = new TestMachine({ blocks, kind })
  const pair = await startPair(sparseMachine({ kind }), there, {
    capabilities: { ...postcopy, ...options.capabilities },
    parameters: onDemand,
    source: { postcopyAtOnce: true },
  })
  begun(pair.source)
  await Promise.all([pair.source, pair.destination].map((end) => reached(end, 'postcopy-active')))
  return pair
}

async function completed(source: Source, destination: Destination): Promise<void> {
  await Promise.all([source.done, destination.done])
}

function assertSame(here: TestMachine, there: TestMachine): void {
  assert(there.content('ram').equals(here.content('ram')))
}

/** Parks a sparse machine; its zero pages are holes. */
async function parkSparse(): Promise<{ here: TestMachine; vm: ParkedVm }> {
  const folder = await temporaryFolder()
  const directory = join(folder, 'vm')
  const park = await Park.listen({ uri: `unix:${join(folder, 'socket')}`, directory })
  cleanups.add(() => park.close())
  const here = sparseMachine()
  const source = migrateTo(park.uri ?? '', here, { capabilities: postcopy, postcopyAtOnce: true })
  await Promise.all([source.done, park.done])
  assert.equal(source.counters.leftOutPages, PAGES - DATA.length)
  const vm = ParkedVm.open(directory, { verify: true })
  cleanups.add(() => vm.close())
  return { here, vm }
}

describe('a source of which most memory was never written', () => {
  for (const kind of ['anon', 'memfd'] as const) {
    it(`sends its data, and no zero page, ${kind}`, async () => {
      const { here, there, source, destination } = await started({}, kind)
      push(source)
      await completed(source, destination)
      const { normalPages, zeroPages, leftOutPages } = source.counters
      assert.deepEqual([normalPages, zeroPages], [DATA.length, 0])
      assert.equal(leftOutPages, PAGES - DATA.length)
      assertSame(here, there)
      const [ram] = destination.pageArrivals
      assert.equal(ram?.received.count(), PAGES)
    })
  }

  it('sends a zero page that a thread waits for', async () => {
    const { here, there, source, destination } = await started()
    const reader = new Parked(there.region('ram'), 'read', ZERO * PAGE)
    assert.equal(await reader.result, 'done')
    push(source)
    await completed(source, destination)
    assert.deepEqual([source.counters.zeroPages, source.counters.requestedPages], [1, 1])
    assert.equal(source.counters.leftOutPages, PAGES - DATA.length - 1)
    assertSame(here, there)
  })

  it('sends a requested zero page on the preempt channel', async () => {
    const capabilities = { 'postcopy-preempt': true }
    const { here, there, source, destination } = await started({ capabilities })
    const readers = [ZERO, 100].map((page) => new Parked(there.region('ram'), 'read', page * PAGE))
    for (const reader of readers) assert.equal(await reader.result, 'done')
    push(source)
    await completed(source, destination)
    assertSame(here, there)
  })

  for (const kind of ['anon', 'memfd'] as const) {
    it(`sends what was written before its guest was stopped, ${kind}`, async () => {
      const here = sparseMachine({ kind })
      const there = new TestMachine({ blocks, kind })
      const stop = here.stop.bind(here)
      here.stop = async () => {
        here.region('ram').write(ZERO * PAGE, Buffer.from('written last'))
        await stop()
      }
      const { source, destination } = await startPair(here, there, {
        capabilities: postcopy,
        source: { postcopyAtOnce: true },
      })
      await completed(source, destination)
      assert.equal(source.counters.normalPages, DATA.length + 1)
      assertSame(here, there)
    })
  }

  it('recovers: the received bitmap has holes for the zero pages', async () => {
    const { here, there, source, destination } = await started()
    const reader = new Parked(there.region('ram'), 'read', ZERO * PAGE)
    assert.equal(await reader.result, 'done')
    source.pause()
    await Promise.all([ended(source), ended(destination)])
    // Its request is lost with the connection, and sent again.
    const waiting = new Parked(there.region('ram'), 'read', (ZERO + 1) * PAGE)
    assert.equal(await waiting.sleeps(), true)
    await source.recover(await destination.recover())
    assert.equal(await waiting.result, 'done')
    // Two were requested: one was sent before, one is sent after the recovery.
    assert.equal(source.counters.leftOutPages, PAGES - DATA.length - 2)
    push(source)
    await completed(source, destination)
    assertSame(here, there)
  })

  it('can be lost after it has spilled', async () => {
    const directory = join(await temporaryFolder(), 'owed')
    let spill: Spill | undefined
    const { here, there, source, destination } = await started({}, 'anon', (begun) => {
      spill = Spill.follow(begun, directory)
    })
    cleanups.add(() => spill?.close())
    assert.deepEqual(await spill?.written, { path: `${directory}.incomplete` })
    await source.close()
    await spill?.close()
    await ended(destination)
    const vm = ParkedVm.open(`${directory}.incomplete`, { forRecovery: true })
    cleanups.add(() => vm.close())
    const successor = recover(vm, { uri: await destination.recover() })
    cleanups.add(() => successor.close())
    await completed(successor, destination)
    assert.equal(successor.counters.normalPages, DATA.length)
    assertSame(here, there)
  })
})

describe('a parked VM of which most pages are zero', () => {
  lendHugePages(8)

  it('sends its data, and no zero page', async () => {
    const { here, vm } = await parkSparse()
    const there = new TestMachine({ blocks })
    const destination = await listenFor(there, { capabilities: postcopy })
    const source = resume(vm, { uri: destination.uri })
    cleanups.add(() => source.close())
    await completed(source, destination)
    assert.deepEqual([source.counters.normalPages, source.counters.zeroPages], [DATA.length, 0])
    assertSame(here, there)
  })

  it('sends a whole huge page if a part of it has data', async function () {
    requires(this, 'hugePages')
    const { here, vm } = await parkSparse()
    const huge = ParkedVm.open(vm.directory, { pageSizes: new Map([['ram', 2 ** 21]]) })
    cleanups.add(() => huge.close())
    const there = new TestMachine({ blocks, kind: 'hugetlb' })
    // Left from before: the destination must not keep it.
    there.region('ram').write(ZERO * PAGE, Buffer.from('old'))
    const destination = await listenFor(there, { capabilities: postcopy })
    const source = resume(huge, { uri: destination.uri })
    cleanups.add(() => source.close())
    await completed(source, destination)
    assert.equal(source.counters.leftOutPages, 2 * 512)
    assertSame(here, there)
  })

  it('pushes the zero pages of its working set', async () => {
    const { here, vm } = await parkSparse()
    const clone = async () => {
      const there = new TestMachine({ blocks })
      const destination = await listenFor(there, { capabilities: postcopy })
      const workingSet = WorkingSet.open(vm)
      const source = resume(vm, { uri: destination.uri, parameters: onDemand, workingSet })
      cleanups.add(() => source.close())
      await Promise.all([source, destination].map((end) => reached(end, 'postcopy-active')))
      const reader = new Parked(there.region('ram'), 'read', ZERO * PAGE)
      assert.equal(await reader.result, 'done')
      push(source)
      await completed(source, destination)
      workingSet.save()
      assertSame(here, there)
      return source.counters
    }
    assert.equal((await clone()).replayedPages, 0)
    assert.equal((await clone()).replayedPages, 1)
  })
})

/** The part of the stream after the package, from a scripted source that leaves out pages. */
async function leaveOut(
  isLeftOut: (page: number) => boolean,
  checksum?: (pages: PageBitmap) => number,
): Promise<Case> {
  const one = await begin({ machine: { blocks } })
  upToPackage(one)
  await reached(one.destination, 'postcopy-active')
  const pages = new PageBitmap(PAGES)
  for (let page = 0; page < PAGES; page += 1) if (isLeftOut(page)) pages.set(page)
  one.source.send(ramEnd(allPages(one.sent, (_, offset) => !isLeftOut(offset / PAGE))))
  one.source.send((out) => {
    if (checksum !== undefined) stream.encodePing(out, checksum(pages))
    stream.encodeEndOfStream(out)
  })
  return one
}

describe('a destination that misses pages at the end', () => {
  // `TestMachine.fill` leaves every fifth page zero.
  const isZero = (page: number): boolean => page % 5 === 0

  it('takes them as zeros if they are those that the source has left out', async () => {
    const one = await leaveOut(isZero, (pages) => missingChecksum([pages]))
    await one.destination.done
    assertSame(one.sent, one.machine)
  })

  it('does not complete without the checksum of what was left out', async () => {
    const one = await leaveOut(isZero)
    await ended(one.destination)
    assert.equal(one.destination.state, 'postcopy-paused')
    assert.equal(codeOf(one.destination), 'ERR_PEER_INCOMPLETE')
  })

  it('does not complete if one more page is missing', async () => {
    const one = await leaveOut(
      (page) => isZero(page) || page === 333,
      (pages) => {
        pages.clear(333)
        return missingChecksum([pages])
      },
    )
    await ended(one.destination)
    assert.equal(codeOf(one.destination), 'ERR_PEER_INCOMPLETE')
    assert.equal(one.destination.pageArrivals[0]?.received.test(333), false)
  })
})

describe('the stream of a source that leaves out pages', () => {
  async function toPeer(machine: TestMachine): Promise<{ source: Source; peer: FakeDestination }> {
    const peer = await FakeDestination.listen()
    const source = migrateTo(peer.uri, machine, {
      capabilities: postcopy,
      postcopyAtOnce: true,
      parameters: onDemand,
    })
    await reached(source, 'postcopy-active')
    return { source, peer }
  }

  it('discards them, and ends with their checksum in a ping', async () => {
    const { source, peer } = await toPeer(sparseMachine())
    push(source)
    await peer.heard('endOfStream')
    const leftOut = new PageBitmap(PAGES)
    leftOut.setAll()
    for (const page of DATA) leftOut.clear(page)
    assert.deepEqual(peer.events.at(-2), ['ping', missingChecksum([leftOut])])
    assert.deepEqual(peer.all('ramZero'), [])
    const [discard] = peer.all('ramDiscard')
    assert.deepEqual([...((discard?.[2] ?? []) as Iterable<number>)], [0, PAGES * PAGE])
    peer.shut(0)
    await source.done
  })

  it('has a zero page once, however often it is requested', async () => {
    const { source, peer } = await toPeer(sparseMachine())
    peer.request('ram', ZERO * PAGE)
    await peer.heard('ramZero', 'ram', ZERO * PAGE)
    peer.request('ram', ZERO * PAGE)
    peer.request('ram', (ZERO + 1) * PAGE)
    await peer.heard('ramZero', 'ram', (ZERO + 1) * PAGE)
    push(source)
    await peer.heard('endOfStream')
    assert.equal(peer.all('ramZero').length, 2)
    peer.shut(0)
    await source.done
  })

  it('has no such ping if nothing is left out', async () => {
    const machine = sparseMachine()
    machine.fill(1, PAGES + 1)
    machine.region('ram').write(0, Buffer.from('data'))
    const { source, peer } = await toPeer(machine)
    push(source)
    await peer.heard('endOfStream')
    assert.notEqual(peer.events.at(-2)?.[0], 'ping')
    peer.shut(0)
    await source.done
  })
})

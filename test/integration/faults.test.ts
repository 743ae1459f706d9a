/**
 * Page faults at the destination: which pages are requested, how often, and which need no request.
 */
import assert from 'node:assert/strict'
import type { Destination } from '../../src/destination/destination.js'
import { PUSH_NEVER } from '../../src/migration/options.js'
import * as stream from '../../src/stream/index.js'
import { cleanups } from '../support/cleanup.js'
import { FakeSource, discardAll, packageOf, part, prologue, ramEnd } from '../support/fake-peer.js'
import { type MemoryKind, describeKinds, hostPageOf } from '../support/memory-kinds.js'
import {
  guestPair,
  listenFor,
  migratePair,
  postcopy,
  reached,
  startPair,
} from '../support/migration.js'
import { Parked } from '../support/park.js'
import { requires } from '../support/requires.js'
import { smapsOf } from '../support/smaps.js'
import { TestMachine } from '../support/test-machine.js'

interface Case {
  readonly sent: TestMachine
  readonly machine: TestMachine
  readonly destination: Destination
  readonly source: FakeSource
}

/** A destination that runs its guest, and misses the pages that `discard` names. */
async function running(
  kind: MemoryKind,
  { precopied, discard }: { precopied?: Uint8Array; discard?: Uint8Array } = {},
): Promise<Case> {
  const hostPage = hostPageOf(kind)
  const blocks = { ram: 4 * hostPage, vram: 2 * hostPage }
  const sent = new TestMachine({ kind, blocks })
  sent.fill()
  const machine = new TestMachine({ kind, blocks })
  const destination = await listenFor(machine, { capabilities: postcopy })
  const source = await FakeSource.connect(destination.uri, machine)
  serveAfterTest({ sent, source, destination })
  source.send(prologue(sent))
  if (precopied !== undefined) source.send(precopied)
  source.send(discard ?? discardAll(sent))
  source.send(packageOf(sent))
  await reached(destination, 'postcopy-active')
  return { sent, machine, destination, source }
}

/** A thread continues a moment before its page counts as received. */
async function allTaken(source: FakeSource): Promise<void> {
  source.send((out) => stream.encodePing(out, 99))
  await source.heard('pong', 99)
}

type Served = Pick<Case, 'sent' | 'source' | 'destination'>

/** After the test, serves all pages, so that threads that are still parked can end. */
function serveAfterTest(one: Served): void {
  cleanups.add(async () => {
    if (one.destination.state === 'postcopy-active') await serveRest(one)
  })
}

async function serveRest({ sent, source, destination }: Served): Promise<void> {
  await allTaken(source)
  const missing = destination.pageArrivals.map(({ name, pageCount, received }) => ({
    name,
    pages: Array.from({ length: pageCount }, (_, page) => page).filter(
      (page) => !received.test(page),
    ),
  }))
  source.send(
    part((out) => {
      for (const { name, pages } of missing) {
        const content = sent.content(name)
        for (const page of pages) {
          const bytes = content.subarray(page * 4096, (page + 1) * 4096)
          stream.encodeRamPage(out, name, page * 4096, bytes)
        }
      }
    }),
  )
  source.send(ramEnd())
  source.send((out) => stream.encodeEndOfStream(out))
  await destination.done
}

/** Sends one host page of a block. */
function serve({ source, sent }: Case, block: string, offset: number): void {
  const length = sent.region(block).pageSizeBytes
  const content = sent.content(block)
  source.send(
    part((out) => {
      for (let at = offset; at < offset + length; at += 4096) {
        stream.encodeRamPage(out, block, at, content.subarray(at, at + 4096))
      }
    }),
  )
}

/** The types of the request messages on the wire, in order. */
function requestTypes(source: FakeSource): number[] {
  const bytes = Buffer.concat(source.bytes)
  const types: number[] = []
  for (let at = 0; at + 4 <= bytes.length; at += 4 + bytes.readUInt16BE(at + 2)) {
    const type = bytes.readUInt16BE(at)
    if (type === 3 || type === 4) types.push(type)
  }
  return types
}

describeKinds('a fault', ['anon', 'memfd', 'hugetlb'], (kind, hostPage) => {
  it('parks its thread, requests one host page, and ends when that is placed', async () => {
    const one = await running(kind)
    const reader = new Parked(one.machine.region('ram'), 'read', hostPage + 100)
    const asked = await one.source.heard('requestPages')
    assert.deepEqual(asked, ['ram', hostPage, hostPage])
    assert(await reader.sleeps(), 'it waits for the page')
    serve(one, 'ram', hostPage)
    assert.equal(await reader.result, 'done')
    await allTaken(one.source)
    const { faults, requestedPages, placeCalls } = one.destination.counters
    assert.deepEqual([faults, requestedPages, placeCalls], [1, 1, 1])
  })

  it('allows huge pages again after the last one, and a hole in them is missing', async function () {
    requires(this, 'transparentHugePages')
    const one = await running(kind)
    await serveRest(one)
    assert.equal(/\bhg\b/.test(smapsOf(one.machine.region('ram'), 'VmFlags')), kind === 'anon')
  })

  it('of four threads on one page is one request', async () => {
    const one = await running(kind)
    const readers = Array.from(
      { length: 4 },
      (_, index) => new Parked(one.machine.region('ram'), 'read', 2 * hostPage + index * 512),
    )
    for (const reader of readers) assert(await reader.sleeps())
    assert.equal(one.source.all('requestPages').length, 1)
    serve(one, 'ram', 2 * hostPage)
    for (const reader of readers) assert.equal(await reader.result, 'done')
    const { faults, duplicateFaults, requestedPages } = one.destination.counters
    assert.deepEqual([faults, duplicateFaults, requestedPages], [4, 3, 1])
  })

  it('names its block only if that differs from the previous request', async () => {
    const one = await running(kind)
    const touch = async (block: string, index: number): Promise<void> => {
      const reader = new Parked(one.machine.region(block), 'write', index * hostPage)
      await one.source.heard('requestPages', block, index * hostPage)
      serve(one, block, index * hostPage)
      assert.equal(await reader.result, 'done')
    }
    await touch('ram', 0)
    await touch('ram', 3)
    await touch('vram', 1)
    await touch('ram', 1)
    assert.deepEqual(requestTypes(one.source), [3, 4, 3, 3])
  })

  it('on a page that precopy sent as zeros is resolved without a request', async () => {
    const precopied = part((out) => {
      for (let at = 0; at < hostPage; at += 4096) stream.encodeRamZero(out, 'ram', at)
    })
    const discard = stream.encode((out) => {
      stream.encodeRamDiscard(out, 'ram', [hostPage, 3 * hostPage])
      stream.encodeRamDiscard(out, 'vram', [0, 2 * hostPage])
    })
    const one = await running(kind, { precopied, discard })
    const readers = [0, 1].map((at) => new Parked(one.machine.region('ram'), 'read', at))
    for (const reader of readers) assert.equal(await reader.result, 'done')
    assert.equal(one.machine.byteAt('ram', 0), 0)
    assert.deepEqual(one.source.all('requestPages'), [])
    const { faults, localFaults } = one.destination.counters
    assert.equal(faults, localFaults)
    // Huge pages are present before precopy, so that a shortage is found before the switch.
    if (kind === 'hugetlb') assert.equal(faults, 0)
    else assert(faults >= 1)
  })

  it('from inside the kernel is resolved like any other', async function () {
    requires(this, 'kernelFaults')
    const one = await running(kind)
    const reader = new Parked(one.machine.region('ram'), 'kernel', hostPage, 4096)
    await one.source.heard('requestPages', 'ram', hostPage)
    serve(one, 'ram', hostPage)
    assert.equal(await reader.result, 'done')
  })

  it('is only in the bitmap of its block, and the map of arrivals shows how pages were received', async () => {
    const one = await running(kind)
    const reader = new Parked(one.machine.region('vram'), 'read', hostPage)
    await one.source.heard('requestPages', 'vram', hostPage)
    serve(one, 'vram', hostPage)
    assert.equal(await reader.result, 'done')
    await allTaken(one.source)
    const counts = one.destination.pageArrivals.map(({ name, requested, received, precopied }) => [
      name,
      requested.count() * 4096,
      received.count() * 4096,
      precopied.count(),
    ])
    assert.deepEqual(counts, [
      ['ram', 0, 0, 0],
      ['vram', hostPage, hostPage, 0],
    ])
  })
})

describe('huge pages', () => {
  it('are used in precopy, and forbidden from the first discard to the last page', async function () {
    requires(this, 'transparentHugePages')
    const sent = new TestMachine({ blocks: { ram: 8 * 2 ** 20 } })
    sent.fill()
    const machine = new TestMachine({ blocks: { ram: 8 * 2 ** 20 } })
    const ram = machine.region('ram')
    ram.adviseHugePages('HUGEPAGE')
    const destination = await listenFor(machine, { capabilities: postcopy })
    const source = await FakeSource.connect(destination.uri, machine)
    serveAfterTest({ sent, source, destination })
    source.send(prologue(sent))
    // One page in the middle of each huge page.
    const precopied = [0, 1, 2, 3].map((index) => 256 + 512 * index)
    source.send(
      part((out) => {
        for (const page of precopied) {
          const bytes = sent.content('ram').subarray(page * 4096, (page + 1) * 4096)
          stream.encodeRamPage(out, 'ram', page * 4096, bytes)
        }
      }),
    )
    await allTaken(source)
    assert.match(smapsOf(ram, 'VmFlags'), /\bhg\b/)
    assert.notEqual(smapsOf(ram, 'AnonHugePages'), '0 kB')

    const bounds = [0, ...precopied.flatMap((page) => [page, page + 1]), 2048]
    const owed = bounds.flatMap((page, index) =>
      index % 2 === 0 ? [page * 4096, ((bounds[index + 1] ?? 0) - page) * 4096] : [],
    )
    source.send((out) => stream.encodeRamDiscard(out, 'ram', owed))
    source.send(packageOf(sent))
    await reached(destination, 'postcopy-active')
    assert.match(smapsOf(ram, 'VmFlags'), /\bnh\b/)
    assert.equal(smapsOf(ram, 'AnonHugePages'), '0 kB')
    // Zero pages that a huge page had filled in are missing now, and must be requested.
    const reader = new Parked(ram, 'read', 1000 * 4096)
    assert.deepEqual(await source.heard('requestPages'), ['ram', 1000 * 4096, 4096])

    await serveRest({ sent, source, destination })
    assert.equal(await reader.result, 'done')
    assert(machine.content('ram').equals(sent.content('ram')))
    assert.match(smapsOf(ram, 'VmFlags'), /\bhg\b/)
  })
})

describe('devices that touch guest RAM while they load', () => {
  for (const memory of ['anon', 'memfd'] as const) {
    for (const userModeOnly of [true, false]) {
      const who = userModeOnly ? 'user-mode faults only' : 'faults of the kernel too'
      it(`fault, and their pages are placed meanwhile: ${memory}, ${who}`, async function () {
        if (!userModeOnly) requires(this, 'kernelFaults')
        const { here, there } = await guestPair({ ram: '4M', memory })
        // Without it the destination does not know which pages loading reads.
        Object.defineProperty(here, 'loadRanges', { value: [] })
        here.start()
        // Pushes nothing: on a busy host, a pushed page may arrive before the devices touch it.
        const { source, destination } = await startPair(here, there, {
          capabilities: postcopy,
          parameters: { 'x-read-ahead-pages': 0, 'x-push-after-quiet-ms': PUSH_NEVER },
          destination: { userModeOnly },
        })
        source.startPostcopy()
        await Promise.all([
          reached(source, 'postcopy-active'),
          reached(destination, 'postcopy-active'),
        ])
        source.setParameters({ 'x-push-after-quiet-ms': 0 })
        await Promise.all([source.done, destination.done])
        assert.equal(destination.userModeOnly, userModeOnly)
        const requested = destination.pageArrivals.flatMap(({ name, requested: pages }) =>
          pages.count() > 0 ? [[name, [...pages.runs()]]] : [],
        )
        // The vCPU is idle: ring and buffers of the queue, and the requests of the disk.
        assert.deepEqual(requested, [['ram', [[1012, 1024]]]])
        assert((destination.faults?.otherBlocktimeUs ?? 0) > 0)
        assert.deepEqual(destination.faults?.vcpuBlocktimeUs, [0])
        await there.stop()
        assert.equal((await there.verify()).verified, true)
      })
    }
  }

  it('do not wait if the machine names the pages that loading reads', async () => {
    const { here, there } = await guestPair({ ram: '4M' })
    here.start()
    const { destination } = await migratePair(here, there, { capabilities: postcopy, now: true })
    assert.equal(destination.counters.requestedPages, 0)
    assert.equal(destination.faults?.otherBlocktimeUs, 0)
    assert.equal(destination.counters.precopiedPages, 12)
    await there.stop()
    assert.equal((await there.verify()).verified, true)
  })

  it('park the main thread, which the worker does not need', async () => {
    const loaded: string[] = []
    const blocks = { ram: 2 ** 20 }
    const here = new TestMachine({ blocks })
    here.fill()
    here.devices.set('reader', new Uint8Array(1))
    here.start()
    const there = new TestMachine({
      blocks,
      onLoad: (idstr, _data, machine) => {
        if (idstr !== 'reader') return
        // One after the other, each with a round trip to the source.
        const content = machine.content('ram')
        loaded.push(String(content.equals(here.content('ram'))))
      },
    })
    const { destination } = await migratePair(here, there, { capabilities: postcopy, now: true })
    assert.deepEqual(loaded, ['true'])
    assert.equal(destination.state, 'completed')
    assert(destination.counters.requestedPages > 0)
  })
})

describe('a fault report', () => {
  it('has the faults of each vCPU, and how long they took', async () => {
    const { here, there } = await guestPair({
      ram: '8M',
      vcpus: 2,
      workload: 'random:writes=50,rate=50000',
    })
    here.start()
    const { destination } = await migratePair(here, there, {
      capabilities: postcopy,
      // So slow that the vCPUs touch most pages before they are pushed.
      parameters: { 'max-postcopy-bandwidth': 16 * 2 ** 20 },
      now: true,
    })
    const report = destination.faults
    assert(report !== undefined)
    assert.equal(report.vcpuBlocktimeUs.length, 2)
    assert(report.vcpuBlocktimeUs.every((us) => us > 0))
    assert(report.count > 0 && report.count <= destination.counters.faults)
    assert(report.p50Us <= report.p90Us && report.p90Us <= report.maxUs)
    assert.equal(
      report.buckets.reduce((sum, count) => sum + count, 0),
      report.count,
    )
  })
})

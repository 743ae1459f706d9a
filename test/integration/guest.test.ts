/** The main case: a guest that runs and checks itself, on every kind of memory. */
import assert from 'node:assert/strict'
import type { Guest } from '../../src/guest/index.js'
import { formatFinding } from '../../src/guest/findings.js'
import { describeKinds } from '../support/memory-kinds.js'
import {
  guestPair,
  listenFor,
  migratePair,
  migrateTo,
  noConvergence,
  postcopy,
} from '../support/migration.js'
import { eventually } from '../guest/support.js'

/** Stops the guest and checks its memory. */
async function assertWhole(guest: Guest): Promise<void> {
  await guest.stop()
  const report = await guest.verify()
  assert.deepEqual(report.findings.map(formatFinding), [])
  assert.equal(report.verified, true)
}

/** Waits until every vCPU has made progress. */
async function goesOn(guest: Guest): Promise<void> {
  const before = guest.vcpuStats().map(({ touches }) => touches)
  await eventually('every vCPU continues', () =>
    guest.vcpuStats().every(({ touches }, vcpu) => touches > (before[vcpu] ?? 0) + 100),
  )
}

const ram = '16M'

describeKinds('a running guest', ['anon', 'memfd', 'hugetlb'], (memory) => {
  for (const workload of ['sweep', 'random', 'zipf', 'chase']) {
    it(`continues at the destination while ${workload} touches missing pages, and loses nothing`, async () => {
      const { here, there } = await guestPair({
        ram,
        memory,
        vcpus: 2,
        workload: `${workload}:writes=50`,
      })
      here.start()
      const { destination, source } = await migratePair(here, there, {
        capabilities: postcopy,
        // So slow that the vCPUs touch most pages before they are pushed.
        parameters: { 'max-postcopy-bandwidth': 64 * 2 ** 20 },
        now: true,
      })
      await goesOn(there)
      await assertWhole(there)
      assert.equal(here.running, false)
      const blocked = destination.faults?.vcpuBlocktimeUs.filter((us) => us > 0) ?? []
      assert(blocked.length > 0, 'vCPUs waited for pages')
      assert.equal(source.counters.requestedPages, destination.counters.requestedPages)
      assert.equal(source.counters.remainingPages, 0)
    })
  }

  it('migrates by plain precopy if it writes little', async () => {
    const { here, there } = await guestPair({ ram, memory, workload: 'sweep:rate=200' })
    here.start()
    const { destination } = await migratePair(here, there)
    await goesOn(there)
    await assertWhole(there)
    assert.equal(destination.counters.faults, 0)
    assert(here.vcpuStats()[0]?.failedChecks === 0)
  })

  it('writes during precopy, and postcopy sends the written pages', async () => {
    const workload = 'sweep:hot=4M,writes=100'
    const { here, there } = await guestPair({ ram: '8M', memory, vcpus: 2, workload })
    here.start()
    const { source } = await migratePair(here, there, {
      capabilities: postcopy,
      parameters: { ...noConvergence, 'x-postcopy-after-rounds': 2 },
    })
    await goesOn(there)
    await assertWhole(there)
    const { discardedPages, dirtySyncCount } = source.counters
    assert(dirtySyncCount >= 3, 'two rounds')
    assert(discardedPages > 0, 'written again')
    // Huge pages are sent whole, and every huge page has hot pages.
    if (memory !== 'hugetlb')
      assert(discardedPages < 1500, 'what was not written is not sent again')
  })
})

describe('a guest that migrates more than once', () => {
  it('goes from A to B to C, and C has the content of A', async () => {
    const { here: a, there: b } = await guestPair({ ram, vcpus: 2, workload: 'random:writes=50' })
    const { there: c } = await guestPair({ ram, vcpus: 2 })
    a.start()
    await migratePair(a, b, { capabilities: postcopy, now: true })
    await goesOn(b)
    await migratePair(b, c, { capabilities: postcopy, now: true })
    await goesOn(c)
    await assertWhole(c)
    const touches = (guest: Guest) => guest.vcpuStats().reduce((sum, one) => sum + one.touches, 0)
    assert(touches(c) > touches(b) && touches(b) > touches(a), 'the content is that of one guest')
  })

  it('migrates to another destination after a failure', async () => {
    const { here, there } = await guestPair({ ram, workload: 'random:writes=50' })
    here.start()
    const refused = migrateTo('tcp:127.0.0.1:1', here, { capabilities: postcopy })
    await assert.rejects(refused.done, { code: 'ECONNREFUSED' })
    assert.equal(here.running, true)
    await migratePair(here, there, { capabilities: postcopy, now: true })
    await goesOn(there)
    await assertWhole(there)
  })
})

describe('a paused guest', () => {
  it('arrives paused', async () => {
    const { here, there } = await guestPair({ ram: '4M', workload: 'sweep' })
    await migratePair(here, there, { capabilities: postcopy, now: true })
    assert.equal(there.running, false)
    await assertWhole(there)
    there.start()
    await goesOn(there)
  })
})

describe('the dirty log', () => {
  for (const dirtyLog of ['async', 'sync'] as const) {
    it(`finds every page that a running guest writes, ${dirtyLog}`, async () => {
      const { here, there } = await guestPair({ ram: '4M', vcpus: 2, workload: 'random:writes=50' })
      here.start()
      const destination = await listenFor(there, { capabilities: postcopy })
      const source = migrateTo(destination.uri, here, {
        capabilities: postcopy,
        dirtyLog,
        parameters: { ...noConvergence, 'x-postcopy-after-rounds': 4 },
      })
      await Promise.all([source.done, destination.done])
      assert(source.counters.dirtySyncCount >= 4)
      await goesOn(there)
      await assertWhole(there)
    })
  }
})

/** A guest continues exactly after a move: its content does not show that it was moved. */
import assert from 'node:assert/strict'
import { PATTERNS } from '../../src/guest/index.js'
import { TARGET_PAGE_SIZE } from '../../src/units.js'
import {
  eventually,
  makeGuest,
  moveGuest,
  readBlock,
  readPage,
  runFor,
  writePage,
} from './support.js'

const TOUCHES = 20_000
/** RAM without the pages of devices, which count stops. */
const VCPU_BYTES = 244 * TARGET_PAGE_SIZE

describe('a migrated guest', () => {
  for (const pattern of PATTERNS.filter((known) => known !== 'idle')) {
    it(`that runs ${pattern} ends in the same state as one that was never migrated`, async () => {
      const workload = `${pattern}:writes=40,fill=80,touches=${TOUCHES},seed=3`
      const stayed = await makeGuest({ workload, vcpus: 3 })
      await runFor(stayed, TOUCHES)

      let guest = await makeGuest({ workload, vcpus: 3 })
      for (const kind of ['memfd', 'anon'] as const) {
        guest.start()
        await eventually('some touches', () => (guest.vcpuStats()[0]?.touches ?? 0) > 0)
        await guest.stop()
        const next = await makeGuest({ incoming: true, memory: kind, vcpus: 3 })
        moveGuest(guest, next)
        assert.equal((await next.verify()).verified, true)
        guest = next
      }
      assert.deepEqual(guest.workload, stayed.workload)
      await runFor(guest, TOUCHES)

      assert.deepEqual(
        readBlock(guest, 'ram').subarray(0, VCPU_BYTES),
        readBlock(stayed, 'ram').subarray(0, VCPU_BYTES),
      )
      assert.deepEqual(readBlock(guest, 'ledger'), readBlock(stayed, 'ledger'))
      const work = (of: typeof guest) =>
        of.vcpuStats().map(({ touches, reads, writes }) => [touches, reads, writes])
      assert.deepEqual(work(guest), work(stayed))
      assert.equal((await guest.verify()).verified, true)
    })
  }

  it('runs if it ran, and is paused if it was paused', async () => {
    const source = await makeGuest({ workload: 'sweep' })
    source.start()
    await source.stop()
    const running = await makeGuest({ incoming: true })
    moveGuest(source, running)
    assert.equal(running.running, false, 'not before it is started')
    running.resumeAfterLoad()
    assert.equal(running.running, true)

    await source.stop() // finds it paused
    const paused = await makeGuest({ incoming: true })
    moveGuest(source, paused)
    paused.resumeAfterLoad()
    assert.equal(paused.running, false)
    paused.start()
    assert.equal(paused.running, true)
  })

  it('continues at the source after a failed migration', async () => {
    const guest = await makeGuest({ workload: 'zipf:writes=50' })
    await runFor(guest, 1000)
    guest.saveDevices()
    await runFor(guest, 2000)
    assert.equal((await guest.verify()).verified, true)
  })

  it('keeps its failed checks', async () => {
    const source = await makeGuest({ workload: 'sweep:writes=50' })
    const good = readPage(source, 9)
    writePage(source, 9, new Uint8Array(TARGET_PAGE_SIZE))
    source.start()
    await eventually('a failed check', () => source.vcpuStats()[0]?.failedChecks === 1)
    await source.stop()
    writePage(source, 9, good)
    const destination = await makeGuest({ incoming: true })
    moveGuest(source, destination)
    const report = await destination.verify()
    assert.deepEqual(report.findings, [])
    assert.deepEqual([report.verified, report.failedChecks], [false, 1])
  })
})

/** A guest whose RAM is missing: real faults, served by a worker. */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { StateError } from '../../src/errors.js'
import { addon } from '../../src/guest/native.js'
import { FaultEvent } from '../../src/kernel/index.js'
import { TARGET_PAGE_SIZE } from '../../src/units.js'
import { lendHugePages } from '../support/huge-pages.js'
import { requires } from '../support/requires.js'
import { armMissing, serveFrom } from './missing-pages.js'
import {
  eventually,
  loadDevices,
  makeGuest,
  moveGuest,
  readPage,
  regionOf,
  runFor,
} from './support.js'

/** The number of host pages of `ram` that loading the devices needs, and of all. */
const small = { ram: '1M', devicePages: 12, pages: 256 }
const huge = { ram: '4M', devicePages: 1, pages: 2 }
const cases = [
  { memory: 'anon', userModeOnly: true, ...small },
  { memory: 'anon', userModeOnly: false, ...small },
  { memory: 'memfd', userModeOnly: true, ...small },
  { memory: 'memfd', userModeOnly: false, ...small },
  { memory: 'hugetlb', userModeOnly: true, ...huge },
  { memory: 'hugetlb', userModeOnly: false, ...huge },
] as const

describe('a guest whose RAM is missing', () => {
  lendHugePages(4)

  for (const { memory, userModeOnly, ram, devicePages, pages } of cases) {
    const faults = userModeOnly ? 'user-mode faults only' : 'faults of the kernel too'
    it(`loads its devices and runs on ${memory}, ${faults}`, async function () {
      if (memory === 'hugetlb') requires(this, 'hugePages')
      if (!userModeOnly) requires(this, 'kernelFaults')
      const source = await makeGuest({ ram, memory, workload: 'random:writes=50', vcpus: 2 })
      await runFor(source, 1000)
      const destination = await makeGuest({ ram, memory, incoming: true, vcpus: 2 })
      const served = await serveFrom(source, destination, armMissing(destination, { userModeOnly }))

      loadDevices(source, destination) // this thread is parked for each page of a device
      assert.deepEqual([...served], [devicePages, 0])

      destination.resumeAfterLoad()
      const moved = source.vcpuStats()
      await eventually('touches', () =>
        destination.vcpuStats().every(({ touches }, i) => touches > (moved[i]?.touches ?? 0) + 50),
      )
      await destination.stop()
      const report = await destination.verify() // fetches the pages that are still missing
      assert.deepEqual(report.findings, [])
      assert.equal(report.verified, true)
      assert.deepEqual([...served], [pages, 16])
      // One fault on a huge page, even of a device, may fetch the pages of several vCPUs.
      const blocked = destination.vcpuStats().filter(({ blocktimeUs }) => blocktimeUs > 0)
      assert(
        blocked.length >= (memory === 'hugetlb' ? 1 : 2),
        'a vCPU that waited for pages has blocktime',
      )
    })
  }

  it('has no blocktime without faults, even on a busy host', async () => {
    const guest = await makeGuest({ workload: 'random:writes=50', vcpus: 8 })
    await runFor(guest, 20_000)
    assert(
      guest.vcpuStats().some(({ maxTouchNs }) => maxTouchNs > 20_000),
      'touches were slow',
    )
    assert.deepEqual(
      guest.vcpuStats().map(({ blocktimeUs }) => blocktimeUs),
      Array<number>(8).fill(0),
    )
  })

  it('names the vCPU that keeps it from stopping, and stops after the page is placed', async () => {
    const source = await makeGuest({ workload: 'sweep:writes=100' })
    const destination = await makeGuest({ incoming: true })
    moveGuest(source, destination)
    const uffd = armMissing(destination)
    destination.start()
    const [id = 0] = destination.vcpuThreadIds()
    await eventually(
      'a parked vCPU',
      () => (destination.vcpuStats()[0]?.touching?.sinceUs ?? 0) > 2000,
    )

    await assert.rejects(destination.stop({ timeoutMs: 20 }), (error) => {
      assert(error instanceof StateError)
      assert.equal(error.code, 'ERR_STATE_VCPU_PARKED')
      const message = new RegExp(`vCPU 0 \\(thread ${id}\\) has waited \\d+ ms for page 0 of ram`)
      assert.match(error.message, message)
      return true
    })
    assert.equal(destination.running, true)
    assert.equal(uffd.read(), 1)
    assert.equal(uffd.events[FaultEvent.threadId], id, 'the message names the thread')

    const stopping = destination.stop()
    assert.throws(
      () => {
        destination.start()
      },
      { code: 'ERR_STATE_GUEST' },
    )
    const ledger = new Uint8Array(TARGET_PAGE_SIZE)
    regionOf(source, 'ledger').read(0, ledger)
    uffd.copy(regionOf(destination, 'ledger').address, ledger)
    uffd.copy(regionOf(destination, 'ram').address, readPage(source, 0))
    // The devices write their own pages when the guest stops.
    for (let page = 244; page < 256; page += 1) {
      const address = regionOf(destination, 'ram').address + page * TARGET_PAGE_SIZE
      uffd.copy(address, readPage(source, page))
    }
    await stopping
    assert.equal(destination.running, false)
    assert.equal(destination.vcpuStats()[0]?.touches, 1)
  })

  it('can abort a check that waits for a page, and can check again after it is placed', async () => {
    const guest = await makeGuest({ workload: 'idle:fill=0' })
    const uffd = armMissing(guest)
    const patience = new AbortController()
    const verifying = guest.verify({ signal: patience.signal })
    await eventually('a fault of the scan', () => uffd.read() === 1)
    patience.abort()
    await assert.rejects(verifying, { name: 'AbortError' })
    await assert.rejects(guest.verify(), { code: 'ERR_STATE_BUSY' })

    for (const { region, lengthBytes } of guest.blocks) uffd.zeropage(region.address, lengthBytes)
    await eventually('the end of the scan', () => !guest.checking)
    assert.equal((await guest.verify()).counts.lost, 12) // the pages of the devices
  })

  for (const end of ['return', 'exit', 'close'] as const) {
    it(`does not keep the process from ending by ${end} while vCPUs are parked`, async () => {
      const script = fileURLToPath(new URL('./exit-parked.js', import.meta.url))
      const run = promisify(execFile)
      const { stdout } = await run(process.execPath, [script, end], { timeout: 20_000 })
      assert.equal(stdout, 'parked\n')
    })
  }

  it('has a checksum that depends on every bit', () => {
    const page = new Uint8Array(TARGET_PAGE_SIZE)
    const seen = new Set([addon().checksum(page)])
    for (let bit = 0; bit < TARGET_PAGE_SIZE * 8; bit += 13) {
      page[bit >> 3] = 1 << (bit & 7)
      seen.add(addon().checksum(page))
      page[bit >> 3] = 0
    }
    assert.equal(seen.size, 1 + Math.ceil((TARGET_PAGE_SIZE * 8) / 13))
  })
})

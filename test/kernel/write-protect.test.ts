import assert from 'node:assert/strict'
import {
  FaultFlag,
  PageRange,
  PageRun,
  SCAN_STRIDE,
  categoriesOf,
  countBits,
  findRuns,
  scanDirty,
} from '../../src/kernel/index.js'
import type { MemoryRegion, Userfaultfd } from '../../src/kernel/index.js'
import { allKinds, describeKinds, makeRegion, pageContent } from '../support/memory-kinds.js'
import { Parked, nextFaults, openUffd } from '../support/park.js'

function runsOf(bitmap: Uint8Array): number[][] {
  const out = new Float64Array(2000)
  const count = findRuns(bitmap, 0, bitmap.length * 8, out)
  return Array.from({ length: count }, (_, i) => [
    ...out.subarray(i * PageRun.stride, (i + 1) * PageRun.stride),
  ])
}

/** A userfaultfd with WP_ASYNC; skips the test if the kernel cannot do it for this memory. */
function armAsync(context: Mocha.Context, region: MemoryRegion): Userfaultfd {
  const uffd = openUffd({ optional: ['WP_ASYNC'] })
  if (!uffd.features.has('WP_ASYNC')) context.skip()
  uffd.register(region.address, region.lengthBytes, { writeProtect: true })
  return uffd
}

describeKinds('scanDirty', allKinds, (kind, hostPage) => {
  const perPage = hostPage / 4096

  it('finds exactly the pages written since the last arming', function () {
    const region = makeRegion(kind, 12)
    armAsync(this, region)
    region.touch(0, region.lengthBytes, 'write')
    const bitmap = new Uint8Array(Math.ceil((12 * perPage) / 8))

    assert.equal(scanDirty(region, bitmap, { arm: true }), 12 * perPage)
    assert.equal(scanDirty(region, bitmap, { arm: true }), 0)

    bitmap.fill(0)
    assert.equal(scanDirty(region, bitmap, { arm: true }), 0)
    region.touch(0, region.lengthBytes, 'read')
    region.write(3 * hostPage + 5, Uint8Array.of(1))
    region.touch(5 * hostPage, 2 * hostPage, 'write')
    region.touch(11 * hostPage, 1, 'write')
    const expected = [
      [3 * perPage, 4 * perPage],
      [5 * perPage, 7 * perPage],
      [11 * perPage, 12 * perPage],
    ]
    assert.equal(scanDirty(region, bitmap, { arm: false }), 4 * perPage)
    assert.deepEqual(runsOf(bitmap), expected)
    // The first scan did not arm the pages; only arming does.
    bitmap.fill(0)
    assert.equal(scanDirty(region, bitmap, { arm: true }), 4 * perPage)
    bitmap.fill(0)
    assert.equal(scanDirty(region, bitmap, { arm: true }), 0)
  })

  it('reports untouched pages as written, until they are armed', function () {
    const region = makeRegion(kind, 4)
    armAsync(this, region)
    const bitmap = new Uint8Array(Math.ceil((4 * perPage) / 8))
    // The scan does not report absent hugetlb pages; they are zero pages.
    const seen = kind === 'hugetlb' ? 0 : 4 * perPage
    assert.equal(scanDirty(region, bitmap, { arm: true }), seen)
    bitmap.fill(0)
    assert.equal(scanDirty(region, bitmap, { arm: true }), 0)
    region.touch(hostPage, 1, 'write')
    assert.equal(scanDirty(region, bitmap, { arm: true }), perPage)
    assert.deepEqual(runsOf(bitmap), [[perPage, 2 * perPage]])
  })

  it(`${kind === 'anon' ? 'reports' : 'does not report'} a discarded page`, function () {
    const region = makeRegion(kind, 2)
    armAsync(this, region)
    const bitmap = new Uint8Array(Math.ceil((2 * perPage) / 8))
    region.touch(0, region.lengthBytes, 'write')
    scanDirty(region, bitmap, { arm: true })
    bitmap.fill(0)
    region.discard(hostPage, hostPage)
    scanDirty(region, bitmap, { arm: true })
    // In shared memory the mark survives a discard, so code that discards must
    // record the pages itself.
    assert.equal(countBits(bitmap, perPage, 2 * perPage), kind === 'anon' ? perPage : 0)
    assert.equal(countBits(bitmap, 0, perPage), 0)
  })
})

describe('scanDirty', () => {
  it('finds every page of a pattern with more runs than a batch, once', function () {
    const pages = 8192
    const region = makeRegion('anon', pages)
    armAsync(this, region)
    region.madvise('NOHUGEPAGE')
    region.touch(0, region.lengthBytes, 'write')
    const bitmap = new Uint8Array(pages / 8)
    scanDirty(region, bitmap, { arm: true })
    bitmap.fill(0)
    for (let page = 1; page < pages; page += 2) region.touch(page * 4096, 1, 'write')
    assert.equal(scanDirty(region, bitmap, { arm: true }), pages / 2)
    assert.deepEqual(new Set(bitmap), new Set([0xaa]))
    bitmap.fill(0)
    assert.equal(scanDirty(region, bitmap, { arm: true }), 0)
  })

  it('rejects an unregistered region, and a bitmap that is too short', () => {
    const region = makeRegion('anon', 16)
    assert.throws(() => scanDirty(region, new Uint8Array(2), { arm: true }), {
      code: 'EPERM',
      syscall: 'ioctl',
    })
    assert.throws(() => scanDirty(region, new Uint8Array(1), { arm: true }), RangeError)
  })
})

describe('MemoryRegion.scan', () => {
  it('reports ranges by category, and continues where it stopped', () => {
    const region = makeRegion('anon', 16)
    for (const page of [1, 2, 5, 9, 14]) region.touch(page * 4096, 1, 'write')
    const out = new Float64Array(2 * SCAN_STRIDE)
    const found: [number, number][] = []
    let offset = 0
    let scans = 0
    while (offset < region.lengthBytes) {
      const { count, next } = region.scan({ offset, all: ['PRESENT'], out })
      for (let i = 0; i < count; i += 1) {
        const [start = 0, end = 0, mask = 0] = out.subarray(i * SCAN_STRIDE)
        assert.deepEqual(categoriesOf(mask), new Set(['PRESENT']))
        found.push([start / 4096, end / 4096])
      }
      assert(next > offset)
      offset = next
      scans += 1
    }
    assert.deepEqual(found, [
      [1, 3],
      [5, 6],
      [9, 10],
      [14, 15],
    ])
    assert(scans >= 2)
  })

  it('stops after a number of pages, and finds absent pages', () => {
    const region = makeRegion('anon', 8)
    region.touch(0, 4 * 4096, 'write')
    const out = new Float64Array(10)
    assert.deepEqual(region.scan({ all: ['PRESENT'], maxPages: 3, out }), { count: 1, next: 12288 })
    const absent = region.scan({ all: ['PRESENT'], inverted: ['PRESENT'], report: [], out })
    assert.deepEqual([absent.count, out[PageRange.start], out[PageRange.end]], [1, 16384, 32768])
    assert.throws(() => region.scan({ requireAsync: true, all: ['WRITTEN'], out }), {
      code: 'EPERM',
    })
    // @ts-expect-error a category that does not exist
    assert.throws(() => region.scan({ all: ['DIRTY'], out }), TypeError)
  })
})

describeKinds('Write-protect faults without WP_ASYNC', allKinds, (kind, hostPage) => {
  it('park the writer until the page is disarmed; readers continue', async function () {
    const region = makeRegion(kind, 2)
    const uffd = openUffd({ optional: ['PAGEFAULT_FLAG_WP', 'WP_HUGETLBFS_SHMEM'] })
    const needed = kind === 'anon' ? 'PAGEFAULT_FLAG_WP' : 'WP_HUGETLBFS_SHMEM'
    if (!uffd.features.has(needed)) this.skip()
    region.write(hostPage, pageContent(8))
    const modes = { missing: true, writeProtect: true }
    assert(uffd.register(region.address, region.lengthBytes, modes).has('WRITEPROTECT'))
    uffd.writeProtect(region.address + hostPage, hostPage, { enable: true })
    assert.equal(await new Parked(region, 'read', hostPage).result, 'done')

    const writer = new Parked(region, 'write', hostPage + 99)
    const [fault] = await nextFaults(uffd)
    assert.equal(fault?.flags, FaultFlag.WRITE | FaultFlag.WP)
    assert.equal(fault.address, region.address + hostPage)
    assert.equal(await writer.sleeps(), true)
    uffd.writeProtect(fault.address, hostPage, { enable: false })
    assert.equal(await writer.result, 'done')
    assert.equal(await new Parked(region, 'write', hostPage).result, 'done')

    // A page can be write-protected when it is placed.
    uffd.copy(region.address, pageContent(1, hostPage), { writeProtect: true })
    const second = new Parked(region, 'write', 0)
    const [armed] = await nextFaults(uffd)
    assert.equal(armed?.flags, FaultFlag.WRITE | FaultFlag.WP)
    uffd.writeProtect(region.address, hostPage, { enable: false })
    assert.equal(await second.result, 'done')
  })

  it('are refused if the range is not registered for them', () => {
    const region = makeRegion(kind, 1)
    const uffd = openUffd()
    uffd.register(region.address, hostPage, { missing: true })
    assert.throws(
      () => {
        uffd.writeProtect(region.address, hostPage, { enable: true })
      },
      { code: 'ENOENT' },
    )
  })
})

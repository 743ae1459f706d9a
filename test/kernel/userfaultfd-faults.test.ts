import assert from 'node:assert/strict'
import { EVENT_STRIDE, FaultEvent, FaultFlag } from '../../src/kernel/index.js'
import {
  allKinds,
  bytesAt,
  describeKinds,
  makeRegion,
  pageContent,
} from '../support/memory-kinds.js'
import { Parked, nextFaults, openUffd } from '../support/park.js'
import { requires } from '../support/requires.js'

describeKinds('Page faults', allKinds, (kind, hostPage) => {
  it('name the page and the kind of access, and are resolved by a copy', async () => {
    const region = makeRegion(kind, 2)
    const uffd = openUffd({ optional: ['THREAD_ID'] })
    uffd.register(region.address, region.lengthBytes, { missing: true })
    for (const [action, flags, offset] of [
      ['read', 0, hostPage + 123],
      ['write', FaultFlag.WRITE, 123],
    ] as const) {
      const parked = new Parked(region, action, offset)
      const [fault] = await nextFaults(uffd)
      assert.equal(fault?.flags, flags)
      assert.equal(fault.address, region.address + offset - 123)
      assert.notEqual(fault.threadId, 0)
      assert.equal(uffd.copy(fault.address, pageContent(offset, hostPage)), hostPage)
      assert.equal(await parked.result, 'done')
      assert.deepEqual(bytesAt(region, offset, 8), pageContent(offset, 256).subarray(123, 131))
    }
    assert.equal(uffd.read(), 0)
  })

  it('have the exact address if requested', async function () {
    const uffd = openUffd({ optional: ['EXACT_ADDRESS'] })
    if (!uffd.features.has('EXACT_ADDRESS')) this.skip()
    const region = makeRegion(kind, 1)
    uffd.register(region.address, hostPage, { missing: true })
    const parked = new Parked(region, 'read', 1234)
    const [fault] = await nextFaults(uffd)
    assert.equal(fault?.address, region.address + 1234)
    uffd.copy(region.address, new Uint8Array(hostPage))
    assert.equal(await parked.result, 'done')
  })

  it('of four threads on one page are four messages, and one copy wakes all', async () => {
    const region = makeRegion(kind, 1)
    const uffd = openUffd({ features: ['THREAD_ID'] })
    uffd.register(region.address, hostPage, { missing: true })
    const parked = [0, 1, 2, 3].map((i) => new Parked(region, 'read', i * 64))
    const faults = await nextFaults(uffd, 4)
    assert.deepEqual(new Set(faults.map(({ address }) => address)), new Set([region.address]))
    assert.equal(new Set(faults.map(({ threadId }) => threadId)).size, 4)
    uffd.copy(region.address, pageContent(1, hostPage))
    assert.deepEqual(await Promise.all(parked.map(({ result }) => result)), [
      'done',
      'done',
      'done',
      'done',
    ])
    assert.equal(uffd.read(), 0)
  })

  it('last until a wake after a copy with DONTWAKE', async () => {
    const region = makeRegion(kind, 1)
    const uffd = openUffd()
    uffd.register(region.address, hostPage, { missing: true })
    const parked = new Parked(region, 'read', 0)
    await nextFaults(uffd)
    uffd.copy(region.address, pageContent(1, hostPage), { dontWake: true })
    assert.equal(await parked.sleeps(), true)
    uffd.wake(region.address, hostPage)
    assert.equal(await parked.result, 'done')
  })

  it('are repeated after a wake without the page', async () => {
    const region = makeRegion(kind, 1)
    const uffd = openUffd()
    uffd.register(region.address, hostPage, { missing: true })
    const parked = new Parked(region, 'read', 0)
    await nextFaults(uffd)
    uffd.wake(region.address, hostPage)
    const [again] = await nextFaults(uffd)
    assert.equal(again?.address, region.address)
    uffd.copy(region.address, new Uint8Array(hostPage))
    assert.equal(await parked.result, 'done')
  })

  it('end with zeros when the range is unregistered', async () => {
    const region = makeRegion(kind, 1)
    const uffd = openUffd()
    uffd.register(region.address, hostPage, { missing: true })
    const parked = new Parked(region, 'read', 0)
    await nextFaults(uffd)
    uffd.unregister(region.address, hostPage)
    assert.equal(await parked.result, 'done')
    assert.deepEqual(bytesAt(region, 0, 16), new Uint8Array(16))
  })

  it('are reported for accesses inside the kernel, too', async function () {
    requires(this, 'kernelFaults')
    const region = makeRegion(kind, 1)
    const uffd = openUffd({ userModeOnly: false })
    uffd.register(region.address, hostPage, { missing: true })
    const parked = new Parked(region, 'kernel', 64, 16)
    const [fault] = await nextFaults(uffd)
    assert.equal(fault?.address, region.address)
    assert.equal(await parked.sleeps(), true)
    uffd.copy(region.address, pageContent(3, hostPage))
    assert.equal(await parked.result, 'done')
    const expected = pageContent(3, 256).fill(0, 64, 80)
    assert.deepEqual(bytesAt(region, 0, 256), expected)
  })

  it('from inside the kernel are EFAULT for a user-mode-only descriptor', async () => {
    const region = makeRegion(kind, 1)
    const uffd = openUffd({ userModeOnly: true })
    assert.equal(uffd.userModeOnly, true)
    uffd.register(region.address, hostPage, { missing: true })
    assert.equal(await new Parked(region, 'kernel', 0, 16).result, 'EFAULT')
    assert.equal(await new Parked(region, 'populate', 0, hostPage).result, 'EFAULT')
    assert.equal(uffd.read(), 0)
    uffd.copy(region.address, new Uint8Array(hostPage))
    assert.equal(await new Parked(region, 'kernel', 0, 16).result, 'done')
  })
})

describeKinds('Minor faults', ['memfd', 'hugetlb'], (kind, hostPage) => {
  it('are reported for pages in the file, and are resolved by a continue', async () => {
    const region = makeRegion(kind, 2, { alias: true })
    const uffd = openUffd()
    uffd.register(region.address, region.lengthBytes, { missing: true, minor: true })
    region.writeAlias(hostPage, pageContent(6))
    const parked = new Parked(region, 'write', hostPage + 5)
    const [fault] = await nextFaults(uffd)
    assert.equal(fault?.flags, FaultFlag.MINOR | FaultFlag.WRITE)
    assert.equal(uffd.continue(fault.address, hostPage), hostPage)
    assert.equal(await parked.result, 'done')
    assert.deepEqual(bytesAt(region, hostPage, 4096), pageContent(6))

    const absent = new Parked(region, 'read', 0)
    const [missing] = await nextFaults(uffd)
    assert.equal(missing?.flags, 0)
    uffd.copy(region.address, new Uint8Array(hostPage))
    assert.equal(await absent.result, 'done')
  })
})

describe('Events', () => {
  it('are read in batches, faults first, into one array', async () => {
    const region = makeRegion('anon', 8)
    const uffd = openUffd()
    const { events } = uffd
    uffd.register(region.address, region.lengthBytes, { missing: true })
    const parked = Array.from({ length: 6 }, (_, i) => new Parked(region, 'write', i * 4096))
    const asleep = await Promise.all(parked.map((each) => each.sleeps()))
    assert(asleep.every(Boolean))
    const count = uffd.read()
    assert.equal(count, 6)
    assert.equal(uffd.events, events)
    const pages = Array.from(
      { length: count },
      (_, i) => (events[i * EVENT_STRIDE + FaultEvent.address] ?? 0) - region.address,
    )
    assert.deepEqual(
      pages.sort((a, b) => a - b),
      [0, 4096, 8192, 12288, 16384, 20480],
    )
    assert.equal(uffd.read(), 0)
    uffd.zeropage(region.address, region.lengthBytes)
    await Promise.all(parked.map(({ result }) => result))
  })
})

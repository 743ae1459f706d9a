import assert from 'node:assert/strict'
import {
  allKinds,
  bytesAt,
  describeKinds,
  makeRegion,
  pageContent,
} from '../support/memory-kinds.js'
import { Parked, nextEvents, openUffd } from '../support/park.js'
import { UffdEvent } from '../../src/kernel/index.js'
import type { FeatureName, Userfaultfd } from '../../src/kernel/index.js'

function needsFeature(context: Mocha.Context, uffd: Userfaultfd, name: FeatureName): void {
  if (!uffd.available.has(name)) context.skip()
}

describeKinds('Userfaultfd.copy', allKinds, (kind, hostPage) => {
  it('places bytes from any address', () => {
    const region = makeRegion(kind, 2)
    const uffd = openUffd()
    uffd.register(region.address, region.lengthBytes, { missing: true })
    const buffer = new Uint8Array(2 * hostPage + 13)
    buffer.set(pageContent(7, 2 * hostPage), 13)
    assert.equal(uffd.copy(region.address, buffer.subarray(13)), 2 * hostPage)
    assert.deepEqual(bytesAt(region, 0, 2 * hostPage), buffer.subarray(13))
  })

  it('returns the placed length, and then the error of the next page', () => {
    const region = makeRegion(kind, 4)
    const uffd = openUffd()
    region.write(2 * hostPage, Uint8Array.of(77))
    uffd.register(region.address, region.lengthBytes, { missing: true })
    const content = pageContent(1, 4 * hostPage)
    assert.equal(uffd.copy(region.address, content), 2 * hostPage)
    assert.throws(() => uffd.copy(region.address + 2 * hostPage, content.subarray(2 * hostPage)), {
      code: 'EEXIST',
      errno: -17,
      syscall: 'ioctl',
    })
    assert.equal(uffd.copy(region.address + 3 * hostPage, content.subarray(3 * hostPage)), hostPage)
    assert.deepEqual(bytesAt(region, 2 * hostPage, 1), Uint8Array.of(77))
  })

  it('throws the errors of the kernel for invalid arguments', () => {
    const region = makeRegion(kind, 2)
    const uffd = openUffd()
    uffd.register(region.address, hostPage, { missing: true })
    const page = new Uint8Array(hostPage)
    const refused: [() => unknown, string][] = [
      [() => uffd.copy(region.address + 512, page), 'EINVAL'],
      [() => uffd.copy(region.address, page.subarray(1)), 'EINVAL'],
      [() => uffd.copy(region.address, new Uint8Array(0)), 'EINVAL'],
      [() => uffd.copy(region.address + hostPage, page), 'ENOENT'],
      [() => uffd.copy(region.address, new Uint8Array(2 * hostPage)), 'ENOENT'],
      [() => uffd.copy(region.address, page, { writeProtect: true }), 'EINVAL'],
    ]
    for (const [call, code] of refused) assert.throws(call, { code, syscall: 'ioctl' })
  })
})

describeKinds('Userfaultfd.zeropage', allKinds, (kind, hostPage) => {
  it(kind === 'hugetlb' ? 'is refused: copy zeros instead' : 'places zeros, once', () => {
    const region = makeRegion(kind, 2)
    const uffd = openUffd()
    uffd.register(region.address, region.lengthBytes, { missing: true })
    if (kind === 'hugetlb') {
      assert.throws(() => uffd.zeropage(region.address, hostPage), { code: 'EINVAL' })
      return
    }
    assert.equal(uffd.zeropage(region.address, 2 * hostPage), 2 * hostPage)
    assert.deepEqual(bytesAt(region, 0, 2 * hostPage), new Uint8Array(2 * hostPage))
    assert.throws(() => uffd.zeropage(region.address, hostPage), { code: 'EEXIST' })
  })
})

describeKinds('Userfaultfd.continue', ['memfd', 'hugetlb'], (kind, hostPage) => {
  it('maps a page that was written to the file', () => {
    const region = makeRegion(kind, 2, { alias: true })
    const uffd = openUffd()
    uffd.register(region.address, region.lengthBytes, { missing: true, minor: true })
    assert.throws(() => uffd.continue(region.address, hostPage), { code: 'EFAULT' })
    region.writeAlias(0, pageContent(9))
    assert.equal(uffd.continue(region.address, hostPage), hostPage)
    assert.deepEqual(bytesAt(region, 0, 4096), pageContent(9))
    assert.throws(() => uffd.continue(region.address, hostPage), { code: 'EEXIST' })
  })
})

describe('Userfaultfd.continue (anon)', () => {
  it('is refused on private memory', () => {
    const region = makeRegion('anon', 1)
    const uffd = openUffd()
    uffd.register(region.address, 4096, { missing: true })
    assert.throws(() => uffd.continue(region.address, 4096), { code: 'EINVAL' })
  })
})

describe('Userfaultfd.move', () => {
  it('moves private pages, and the source range is empty afterwards', function () {
    const source = makeRegion('anon', 2)
    const target = makeRegion('anon', 2)
    const uffd = openUffd()
    needsFeature(this, uffd, 'MOVE')
    source.write(0, pageContent(4))
    uffd.register(target.address, 8192, { missing: true })
    assert.equal(uffd.move(target.address, source.address, 4096), 4096)
    assert.deepEqual(bytesAt(target, 0, 4096), pageContent(4))
    assert.deepEqual(bytesAt(source, 0, 4096), new Uint8Array(4096))
    const next = target.address + 4096
    assert.throws(() => uffd.move(next, source.address + 4096, 4096), { code: 'ENOENT' })
    const options = { allowSourceHoles: true }
    assert.equal(uffd.move(next, source.address + 4096, 4096, options), 4096)
  })

  it('is refused if the target is shared memory or not registered', function () {
    const source = makeRegion('anon', 1)
    const target = makeRegion('memfd', 1)
    const uffd = openUffd()
    needsFeature(this, uffd, 'MOVE')
    source.touch(0, 1, 'write')
    assert.throws(() => uffd.move(target.address, source.address, 4096), { code: 'EINVAL' })
    uffd.register(target.address, 4096, { missing: true })
    assert.throws(() => uffd.move(target.address, source.address, 4096), { code: 'EINVAL' })
  })
})

describeKinds('Userfaultfd.poison', allKinds, (kind, hostPage) => {
  it('makes pages fail instead of being missing, until they are discarded', function () {
    const region = makeRegion(kind, 2)
    const uffd = openUffd()
    needsFeature(this, uffd, 'POISON')
    uffd.register(region.address, region.lengthBytes, { missing: true })
    assert.equal(uffd.poison(region.address, hostPage), hostPage)
    assert.throws(() => uffd.poison(region.address, hostPage), { code: 'EEXIST' })
    // A user-mode touch would raise SIGBUS; an access in kernel mode only fails.
    assert.throws(
      () => {
        region.madvise('POPULATE_WRITE', 0, hostPage)
      },
      { code: 'ERRNO_133' /* EHWPOISON */, syscall: 'madvise' },
    )
    region.madvise('DONTNEED', 0, hostPage)
    assert.equal(uffd.copy(region.address, pageContent(1, hostPage)), hostPage)
    assert.deepEqual(bytesAt(region, 0, 64), pageContent(1, 64))
  })

  it('gives EFAULT to a system call, with the cause in the hint', async function () {
    const region = makeRegion(kind, 1)
    const uffd = openUffd()
    needsFeature(this, uffd, 'POISON')
    uffd.register(region.address, region.lengthBytes, { missing: true })
    uffd.poison(region.address, hostPage)
    assert.equal(await new Parked(region, 'kernel', 0, 16).result, 'EFAULT')
  })
})

describe('Fills while an event is unread', () => {
  it('return 0, and work again after it was read', async function () {
    const region = makeRegion('memfd', 4, { alias: true })
    const uffd = openUffd({ optional: ['EVENT_REMOVE'] })
    needsFeature(this, uffd, 'EVENT_REMOVE')
    uffd.register(region.address, region.lengthBytes, { missing: true, minor: true })
    const remover = new Parked(region, 'discard', 3 * 4096, 4096)
    assert.equal(await remover.sleeps(), true)

    const page = pageContent(2)
    region.writeAlias(8192, page)
    assert.equal(uffd.copy(region.address, page), 0)
    assert.equal(uffd.zeropage(region.address, 4096), 0)
    assert.equal(uffd.continue(region.address + 8192, 4096), 0)
    if (uffd.available.has('POISON')) assert.equal(uffd.poison(region.address, 4096), 0)

    const start = region.address + 3 * 4096
    assert.deepEqual(await nextEvents(uffd, 1), [[UffdEvent.REMOVE, start, start + 4096, 0]])
    assert.equal(await remover.result, 'done')
    assert.equal(uffd.copy(region.address, page), 4096)
    assert.equal(uffd.continue(region.address + 8192, 4096), 4096)
  })
})

describe('the options of a userfaultfd', () => {
  it('are booleans, and any other type is rejected before the ioctl', () => {
    const region = makeRegion('anon', 1)
    const uffd = openUffd()
    const { address, lengthBytes } = region
    // As from JavaScript, where the types are not checked.
    const one = 1 as unknown as boolean
    uffd.register(address, lengthBytes, { missing: true })
    const wrong: Record<string, () => unknown> = {
      missing: () => uffd.register(address, lengthBytes, { missing: one }),
      dontWake: () => uffd.zeropage(address, lengthBytes, { dontWake: one }),
      writeProtect: () => uffd.copy(address, new Uint8Array(4096), { writeProtect: one }),
      allowSourceHoles: () => uffd.move(address, address, lengthBytes, { allowSourceHoles: one }),
      enable: () => uffd.writeProtect(address, lengthBytes, { enable: one }),
    }
    for (const [name, call] of Object.entries(wrong)) {
      assert.throws(call, { name: 'TypeError', message: `${name} must be a boolean` })
    }
    const isPresent = region.mincore(0, lengthBytes)[0]
    assert.equal(isPresent, 0, 'no page was placed')
  })
})

import assert from 'node:assert/strict'
import fc from 'fast-check'
import { PlaceCall, PlaceStop, placeRecords, setBits } from '../../src/kernel/index.js'
import type { MemoryRegion, Userfaultfd } from '../../src/kernel/index.js'
import { bytesAt, describeKinds, makeRegion, pageContent } from '../support/memory-kinds.js'
import { Parked, nextEvents, nextFaults, openUffd } from '../support/park.js'
import {
  concat,
  foreignRecords,
  pageRecord,
  pageSet,
  pagesIn,
  zeroRecord,
} from '../support/records.js'

const pages = 32
const used = pages * 4096

class Target {
  readonly region: MemoryRegion
  readonly uffd: Userfaultfd
  readonly received = pageSet(pages)
  readonly call = new PlaceCall()

  constructor(kind: 'anon' | 'memfd', uffd = openUffd()) {
    this.region = makeRegion(kind, pages)
    this.uffd = uffd
    uffd.register(this.region.address, used, { missing: true })
  }

  place(bytes: Uint8Array, start = 0, end = bytes.length): number {
    const { uffd, region, received, call } = this
    call.usedLength = used
    call.start = start
    call.end = end
    return placeRecords(uffd, region, received, bytes, call)
  }

  get result(): number[] {
    const { normalPages, zeroPages, errno, offset, ioctls, stop } = this.call
    return [normalPages, zeroPages, errno, offset, ioctls, stop]
  }

  content(page: number): Uint8Array {
    return bytesAt(this.region, page * 4096, 4096)
  }

  /** The pages present according to the kernel, not to the bitmap. */
  present(): number[] {
    const resident = this.region.mincore(0, used)
    return [...resident].flatMap((there, page) => (there === 1 ? [page] : []))
  }
}

describeKinds('placeRecords', ['anon', 'memfd'], (kind) => {
  it('places a run by one ioctl, for any layout of the records in the buffer', () => {
    const target = new Target(kind as 'anon')
    const run = Array.from({ length: 10 }, (_, i) => pageRecord(3 + i, pageContent(i)))
    const bytes = concat([new Uint8Array(7), ...run, zeroRecord(20), zeroRecord(21)])
    assert.equal(target.place(bytes, 7), bytes.length - 7)
    assert.deepEqual(target.result, [10, 2, 0, 0, 2, PlaceStop.NONE])
    for (let i = 0; i < 10; i += 1) assert.deepEqual(target.content(3 + i), pageContent(i))
    assert.deepEqual(target.content(21), new Uint8Array(4096))
    assert.deepEqual(pagesIn(target.received), [3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 20, 21])
    assert.deepEqual(target.present(), pagesIn(target.received))
  })

  it('ends a run at a gap, a lower offset, or another kind', () => {
    const target = new Target(kind as 'anon')
    const bytes = concat([
      pageRecord(5, pageContent(5)),
      pageRecord(6, pageContent(6)),
      pageRecord(8, pageContent(8)),
      pageRecord(7, pageContent(7)),
      zeroRecord(9),
      pageRecord(10, pageContent(10)),
      zeroRecord(12),
      zeroRecord(11),
      pageRecord(31, pageContent(31)),
    ])
    assert.equal(target.place(bytes), bytes.length)
    assert.deepEqual(target.result, [6, 3, 0, 0, 8, PlaceStop.NONE])
    for (const page of [5, 6, 7, 8, 10, 31]) {
      assert.deepEqual(target.content(page), pageContent(page))
    }
    assert.deepEqual(target.present(), [5, 6, 7, 8, 9, 10, 11, 12, 31])
  })

  it('stops before a page that is marked as received, with its record intact', () => {
    const target = new Target(kind as 'anon')
    setBits(target.received, 4, 5)
    const last = concat([pageRecord(4, pageContent(4)), pageRecord(5, pageContent(5))])
    const bytes = concat([pageRecord(2, pageContent(2)), pageRecord(3, pageContent(3)), last])
    const consumed = 2 * 4104
    assert.equal(target.place(bytes), consumed)
    assert.deepEqual(target.result, [2, 0, 0, 4 * 4096, 1, PlaceStop.DUPLICATE])
    assert.deepEqual(bytes.subarray(consumed), last)
    assert.deepEqual(target.present(), [2, 3])
  })

  it('counts a page that is received twice as a duplicate', () => {
    const target = new Target(kind as 'anon')
    const twice = concat([zeroRecord(4), zeroRecord(4)])
    assert.equal(target.place(twice), 9)
    assert.deepEqual(target.result, [0, 1, 0, 4 * 4096, 1, PlaceStop.DUPLICATE])
  })

  for (const blocker of [0, 1, 5, 9]) {
    it(`stops before page ${blocker} of a run that is present but not marked`, () => {
      const target = new Target(kind as 'anon')
      target.uffd.copy(target.region.address + (8 + blocker) * 4096, pageContent(99))
      const records = Array.from({ length: 10 }, (_, i) => pageRecord(8 + i, pageContent(i)))
      const tail = concat([zeroRecord(1), pageRecord(2, pageContent(2))])
      const bytes = concat([...records, tail])
      const untouched = bytes.slice(blocker * 4104)

      assert.equal(target.place(bytes), blocker * 4104)
      const [normal, zero, errno, offset, , stop] = target.result
      assert.deepEqual(
        [normal, zero, errno, offset, stop],
        [blocker, 0, 17 /* EEXIST */, (8 + blocker) * 4096, PlaceStop.IOCTL],
      )
      assert.deepEqual(bytes.subarray(blocker * 4104), untouched)
      assert.deepEqual(
        pagesIn(target.received),
        Array.from({ length: blocker }, (_, i) => 8 + i),
      )
      assert.deepEqual(target.content(8 + blocker), pageContent(99))

      // The caller marks the page, and continues after its record with the same bytes.
      setBits(target.received, 8 + blocker, 9 + blocker)
      const next = (blocker + 1) * 4104
      assert.equal(target.place(bytes, next), bytes.length - next)
      for (let i = blocker + 1; i < 10; i += 1) {
        assert.deepEqual(target.content(8 + i), pageContent(i))
      }
    })
  }

  it('stops before a present zero page within a run', () => {
    const target = new Target(kind as 'anon')
    target.uffd.zeropage(target.region.address + 6 * 4096, 4096)
    const bytes = concat([zeroRecord(4), zeroRecord(5), zeroRecord(6), zeroRecord(7)])
    assert.equal(target.place(bytes), 18)
    assert.deepEqual(target.result, [0, 2, 17, 6 * 4096, 2, PlaceStop.IOCTL])
    assert.deepEqual(pagesIn(target.received), [4, 5])
  })

  it('reports ENOENT if the range is not registered', () => {
    const target = new Target(kind as 'anon')
    target.uffd.unregister(target.region.address, used)
    for (const bytes of [pageRecord(1, pageContent(1)), zeroRecord(1)]) {
      const before = bytes.slice()
      assert.equal(target.place(bytes), 0)
      assert.deepEqual(target.result, [0, 0, 2, 4096, 1, PlaceStop.IOCTL])
      assert.deepEqual(bytes, before)
    }
    assert.deepEqual(pagesIn(target.received), [])
  })

  it('leaves everything else to the decoder', () => {
    for (const [what, foreign] of foreignRecords(pages)) {
      const target = new Target(kind as 'anon')
      const good = concat([pageRecord(1, pageContent(1)), zeroRecord(2)])
      const rest = concat([foreign, pageRecord(3, pageContent(3))])
      const bytes = concat([good, rest])
      assert.equal(target.place(bytes), good.length, what)
      assert.equal(target.call.stop, PlaceStop.NONE, what)
      assert.deepEqual(bytes.subarray(good.length), rest, what)
      assert.deepEqual(target.present(), [1, 2], what)
    }
  })

  it('waits for the rest of a record if the run is cut anywhere', () => {
    const borders = [0, 4104, 8208, 8217]
    for (const cut of [0, 1, 8, 4103, 4104, 4105, 4113, 8207, 8208, 8216, 8217]) {
      const target = new Target(kind as 'anon')
      const bytes = concat([
        pageRecord(1, pageContent(1)),
        pageRecord(2, pageContent(2)),
        zeroRecord(3),
      ])
      const consumed = borders.filter((border) => border <= cut).at(-1) ?? 0
      assert.equal(target.place(bytes, 0, cut), consumed)
      assert.equal(target.place(bytes, consumed), bytes.length - consumed)
      for (const page of [1, 2]) assert.deepEqual(target.content(page), pageContent(page))
    }
  })

  it('wakes the threads that wait for any page of a run', async () => {
    const target = new Target(kind as 'anon')
    const parked = [2, 4].map((page) => new Parked(target.region, 'write', page * 4096 + 9))
    await nextFaults(target.uffd, 2)
    const bytes = concat([1, 2, 3, 4, 5].map((page) => pageRecord(page, pageContent(page))))
    assert.equal(target.place(bytes), bytes.length)
    assert.deepEqual(await Promise.all(parked.map(({ result }) => result)), ['done', 'done'])
  })

  it('never reads or writes outside its buffers, for any bytes', () => {
    const part = fc.oneof(
      fc.nat(pages).map((page) => pageRecord(page, pageContent(page))),
      fc.nat(pages).map(zeroRecord),
      fc.constantFrom(...foreignRecords(pages).map(([, bytes]) => bytes)),
      fc.uint8Array({ maxLength: 20 }),
    )
    fc.assert(
      fc.property(fc.array(part, { maxLength: 12 }), fc.nat(8), (parts, tail) => {
        const target = new Target(kind as 'anon')
        const guard = new Uint8Array(16).fill(0xee)
        const bytes = concat([guard, ...parts, guard])
        const end = Math.max(16, bytes.length - 16 - tail)
        const rest = bytes.slice(end)
        const consumed = target.place(bytes, 16, end)
        assert(consumed >= 0 && consumed <= end - 16)
        assert.deepEqual(bytes.subarray(0, 16), guard)
        assert.deepEqual(bytes.subarray(end), rest)
        const [normal = 0, zero = 0] = target.result
        assert.equal(consumed, normal * 4104 + zero * 9)
        assert.deepEqual(target.present(), pagesIn(target.received))
        for (const page of target.present()) {
          const content = target.content(page)
          assert.deepEqual(content, content[0] === 0 ? new Uint8Array(4096) : pageContent(page))
        }
        target.uffd.close()
        target.region.close()
      }),
      { numRuns: 60 },
    )
  })
})

describe('placeRecords', () => {
  it('stops with EAGAIN while an event is unread, and loses nothing', async function () {
    const uffd = openUffd({ optional: ['EVENT_REMOVE'] })
    if (!uffd.features.has('EVENT_REMOVE')) this.skip()
    const target = new Target('anon', uffd)
    const remover = new Parked(target.region, 'discard', 30 * 4096, 4096)
    assert.equal(await remover.sleeps(), true)
    const bytes = concat([1, 2, 3].map((page) => pageRecord(page, pageContent(page))))
    const before = bytes.slice()
    assert.equal(target.place(bytes), 0)
    assert.deepEqual(target.result, [0, 0, 11 /* EAGAIN */, 4096, 1, PlaceStop.IOCTL])
    assert.deepEqual(bytes, before)
    await nextEvents(uffd, 1)
    assert.equal(await remover.result, 'done')
    assert.equal(target.place(bytes), bytes.length)
    for (const page of [1, 2, 3]) assert.deepEqual(target.content(page), pageContent(page))
  })

  it('rejects inconsistent arguments', () => {
    const target = new Target('anon')
    const { uffd, region, received } = target
    const bytes = new Uint8Array(64)
    const call = (length: number, set: Uint8Array, start: number, end: number) => {
      Object.assign(target.call, { usedLength: length, start, end })
      return placeRecords(uffd, region, set, bytes, target.call)
    }
    assert.throws(() => call(used + 4096, pageSet(pages + 8), 0, 64), RangeError)
    assert.throws(() => call(used - 1, received, 0, 64), RangeError)
    assert.throws(() => call(used, received.subarray(1), 0, 64), RangeError)
    assert.throws(() => call(used, received, 0, 65), RangeError)
    assert.throws(() => call(used, received, 2, 1), RangeError)
    const numbers = { value: new Float64Array(target.call.numbers.length - 1) }
    const short = Object.create(PlaceCall.prototype, { numbers }) as PlaceCall
    assert.throws(() => placeRecords(uffd, region, received, bytes, short), RangeError)
    assert.throws(() => call(NaN, received, 0, 64), /^RangeError: usedLength must be /)
    assert.throws(() => call(used, received, NaN, 64), /^RangeError: start must be /)
    assert.throws(() => call(used, received, 0, 0.5), /^RangeError: end must be /)
    uffd.close()
    assert.throws(() => call(used, received, 0, 64), { code: 'ERR_CLOSED' })
  })
})

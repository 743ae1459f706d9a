import assert from 'node:assert/strict'
import { closeSync, fstatSync, ftruncateSync, openSync, readSync, unlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { LoadCall, StoreCall, loadRecords, storeRecords } from '../../src/kernel/index.js'
import { cleanups } from '../support/cleanup.js'
import { bytesAt, makeRegion, pageContent } from '../support/memory-kinds.js'
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

/** Two loops follow the same rules, one for memory and one for a file. */
interface Sink {
  take(bytes: Uint8Array, start?: number, end?: number): number
  content(page: number): Uint8Array
  /** Which pages occupy memory or disk space. */
  populated(): number[]
  received: Uint8Array
  zeroed: Uint8Array
  /** Pages, zero pages. */
  counts(): number[]
}

function memorySink(): Sink {
  // One page more than the block, which must never be touched.
  const region = makeRegion('anon', pages + 1)
  const [received, zeroed, call] = [pageSet(pages), pageSet(pages), new LoadCall()]
  call.usedLength = used
  return {
    take: (bytes, start = 0, end = bytes.length) => {
      call.start = start
      call.end = end
      return loadRecords(region, received, zeroed, bytes, call)
    },
    counts: () => [call.normalPages, call.zeroPages],
    content: (page) => bytesAt(region, page * 4096, 4096),
    populated: () =>
      [...region.mincore(0, region.lengthBytes)].flatMap((there, page) => (there ? [page] : [])),
    received,
    zeroed,
  }
}

function fileSink(): Sink {
  const path = join(tmpdir(), `postcopy-test-store-${process.pid}`)
  const fd = openSync(path, 'w+')
  unlinkSync(path)
  ftruncateSync(fd, used)
  cleanups.add(() => {
    closeSync(fd)
  })
  const [received, zeroed, call] = [pageSet(pages), pageSet(pages), new StoreCall()]
  call.usedLength = used
  return {
    take: (bytes, start = 0, end = bytes.length) => {
      call.start = start
      call.end = end
      return storeRecords(fd, received, zeroed, bytes, call)
    },
    counts: () => [call.normalPages, call.zeroPages],
    content: (page) => {
      const bytes = new Uint8Array(4096)
      readSync(fd, bytes, 0, 4096, page * 4096)
      return bytes
    },
    // A file system reports how many blocks are used, not which; that suffices to check for none.
    populated: () => (fstatSync(fd).blocks === 0 ? [] : [-1]),
    received,
    zeroed,
  }
}

for (const [title, makeSink] of [
  ['loadRecords', memorySink],
  ['storeRecords', fileSink],
] as const) {
  describe(title, () => {
    it('stores pages at their offsets, and counts them', () => {
      const sink = makeSink()
      const order = [4, 5, 6, 30, 31, 0, 9]
      const bytes = concat([
        ...order.map((page) => pageRecord(page, pageContent(page))),
        zeroRecord(7),
      ])
      assert.equal(sink.take(bytes), bytes.length)
      assert.deepEqual(sink.counts(), [7, 1])
      for (const page of order) assert.deepEqual(sink.content(page), pageContent(page))
      assert.deepEqual(sink.content(8), new Uint8Array(4096))
      assert.deepEqual(pagesIn(sink.received), [0, 4, 5, 6, 7, 9, 30, 31])
      assert.deepEqual(pagesIn(sink.zeroed), [7])
    })

    it('does not touch pages that were always zero', () => {
      const sink = makeSink()
      const bytes = concat(Array.from({ length: pages }, (_, page) => zeroRecord(page)))
      assert.equal(sink.take(bytes), bytes.length)
      assert.equal(sink.take(bytes), bytes.length)
      assert.deepEqual(sink.populated(), [])
      assert.deepEqual(sink.counts(), [0, pages])
      assert.equal(pagesIn(sink.zeroed).length, pages)
    })

    it('keeps the latest copy of a page that is received twice', () => {
      const sink = makeSink()
      const [old, newer] = [pageContent(1), pageContent(2)]
      sink.take(concat([pageRecord(3, old), pageRecord(3, newer)]))
      assert.deepEqual(sink.content(3), newer)
      sink.take(zeroRecord(3))
      assert.deepEqual(sink.content(3), new Uint8Array(4096))
      assert.deepEqual(pagesIn(sink.zeroed), [3])
      sink.take(concat([zeroRecord(3), pageRecord(3, old)]))
      assert.deepEqual(sink.content(3), old)
      assert.deepEqual(pagesIn(sink.zeroed), [])
      assert.deepEqual(pagesIn(sink.received), [3])
    })

    it('leaves everything else to the decoder', () => {
      for (const [what, foreign] of foreignRecords(pages)) {
        const sink = makeSink()
        const good = concat([pageRecord(1, pageContent(1)), zeroRecord(2)])
        const bytes = concat([good, foreign, pageRecord(3, pageContent(3))])
        assert.equal(sink.take(bytes), good.length, what)
        assert.equal(sink.take(bytes, good.length), 0, what)
        assert.deepEqual(pagesIn(sink.received), [1, 2], what)
      }
    })

    it('waits for the rest of a record that is cut anywhere', () => {
      const parts = [pageRecord(1, pageContent(1)), zeroRecord(2), pageRecord(5, pageContent(5))]
      const bytes = concat(parts)
      const borders = [0, 4104, 4113, 8217]
      for (const cut of [0, 1, 7, 8, 9, 4103, 4104, 4105, 4111, 4112, 4113, 8216, 8217]) {
        const sink = makeSink()
        const expected = borders.filter((border) => border <= cut).at(-1)
        assert.equal(sink.take(bytes, 0, cut), expected)
        assert.equal(sink.take(bytes, expected), bytes.length - (expected ?? 0))
        assert.deepEqual(pagesIn(sink.received), [1, 2, 5])
      }
    })

    it('agrees with a simple decoder for any bytes', () => {
      const part = fc.oneof(
        fc.nat(pages + 1).map((page) => pageRecord(page, pageContent(page))),
        fc.nat(pages + 1).map(zeroRecord),
        fc.constantFrom(...foreignRecords(pages).map(([, bytes]) => bytes)),
        fc.uint8Array({ maxLength: 20 }),
      )
      fc.assert(
        fc.property(fc.array(part, { maxLength: 8 }), fc.nat(8), (parts, tail) => {
          const sink = makeSink()
          const bytes = concat(parts)
          const end = Math.max(0, bytes.length - tail)
          const { consumed, model } = plainDecode(bytes.subarray(0, end))
          assert.equal(sink.take(bytes, 0, end), consumed)
          for (const [page, content] of model) {
            assert.deepEqual(sink.content(page), content ?? new Uint8Array(4096))
          }
          assert.deepEqual(
            pagesIn(sink.received),
            [...model.keys()].sort((a, b) => a - b),
          )
        }),
        { numRuns: 60 },
      )
    })

    it('rejects inconsistent arguments', () => {
      const sink = makeSink()
      const bytes = new Uint8Array(100)
      assert.throws(() => sink.take(bytes, 101), RangeError)
      assert.throws(() => sink.take(bytes, 5, 4), RangeError)
      assert.throws(() => sink.take(bytes, 0, 101), RangeError)
      assert.throws(() => sink.take(bytes, 0, NaN), /^RangeError: end must be /)
      assert.throws(() => sink.take(bytes, -1), /^RangeError: start must be /)
    })
  })
}

/** The expected result of a receiver: the last content of each page, `undefined` for zeros. */
function plainDecode(bytes: Uint8Array) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
  const model = new Map<number, Uint8Array | undefined>()
  let at = 0
  while (at + 9 <= bytes.length) {
    const word = view.getBigUint64(at)
    const page = Number(word / 4096n)
    if (page >= pages) break
    const flags = Number(word % 4096n)
    if (flags === 0x22 && bytes[at + 8] === 0) {
      model.set(page, undefined)
      at += 9
    } else if (flags === 0x28 && at + 4104 <= bytes.length) {
      model.set(page, bytes.slice(at + 8, at + 4104))
      at += 4104
    } else break
  }
  return { consumed: at, model }
}

describe('loadRecords', () => {
  it('rejects a block larger than the region, and bitmaps too short for it', () => {
    const region = makeRegion('anon', pages)
    const [set, short, call] = [pageSet(pages), pageSet(pages - 8), new LoadCall()]
    const bytes = new Uint8Array(9)
    const load = (length: number, received: Uint8Array, zeroed: Uint8Array) => {
      Object.assign(call, { usedLength: length, start: 0, end: 9 })
      return loadRecords(region, received, zeroed, bytes, call)
    }
    assert.throws(() => load(used + 4096, pageSet(pages + 8), pageSet(pages + 8)), RangeError)
    assert.throws(() => load(used - 1, set, set), RangeError)
    assert.throws(() => load(used, short, set), RangeError)
    assert.throws(() => load(used, set, short), RangeError)
    assert.equal(load(0, short, short), 0)
  })
})

describe('storeRecords', () => {
  it('reports the page that could not be written to the file', () => {
    const fd = openSync('/dev/full', 'w')
    cleanups.add(() => {
      closeSync(fd)
    })
    const [received, zeroed, call] = [pageSet(pages), pageSet(pages), new StoreCall()]
    const bytes = concat([zeroRecord(1), pageRecord(2, pageContent(2))])
    Object.assign(call, { usedLength: used, start: 0, end: bytes.length })
    assert.equal(storeRecords(fd, received, zeroed, bytes, call), 9)
    const { normalPages, zeroPages, errno, offset } = call
    assert.deepEqual([normalPages, zeroPages, errno, offset], [0, 1, 28 /* ENOSPC */, 8192])
    assert.deepEqual(pagesIn(received), [1])
  })
})

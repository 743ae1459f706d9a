import assert from 'node:assert/strict'
import { packPages } from '../../src/kernel/index.js'
import type { PackOptions } from '../../src/kernel/index.js'
import { makeRegion, pageContent } from '../support/memory-kinds.js'
import { decodeRecords, pageSet, pagesIn } from '../support/records.js'

const pages = 64
const name = new TextEncoder().encode('pc.ram')

/** Pages 0..63, of which each fourth is zero. */
function filledRegion() {
  const region = makeRegion('anon', pages)
  for (let page = 0; page < pages; page += 1) {
    if (page % 4 !== 3) region.write(page * 4096, pageContent(page))
  }
  return region
}

function pack(bitmap: Uint8Array, options: Partial<PackOptions>, room = 2 ** 20, at = 0) {
  const out = new Uint8Array(room)
  const result = new Float64Array(3)
  const all = { from: 0, to: pages, ...options }
  const bytes = packPages(filledRegion(), bitmap, all, out, at, result)
  const [next, normal, zero] = result
  return { records: decodeRecords(out.subarray(at, at + bytes)), bytes, next, normal, zero, out }
}

describe('packPages', () => {
  it('writes the set pages of the range, in order, and clears their bits', () => {
    const bitmap = pageSet(pages, 0, 3, 4, 20, 21, 22, 23, 63)
    const { records, bytes, next, normal, zero } = pack(bitmap, { from: 3, to: 63 })
    assert.deepEqual(
      records,
      [3, 4, 20, 21, 22, 23].map((page) => ({
        page,
        name: undefined,
        content: page % 4 === 3 ? undefined : pageContent(page),
      })),
    )
    assert.deepEqual([bytes, next, normal, zero], [4 * 4104 + 2 * 9, 63, 4, 2])
    assert.deepEqual(pagesIn(bitmap), [0, 63])
  })

  it('names the block in the first record only', () => {
    for (const first of [1, 3]) {
      const { records } = pack(pageSet(pages, first, 5, 7), { name })
      assert.deepEqual(
        records.map((each) => [each.page, each.name]),
        [
          [first, 'pc.ram'],
          [5, undefined],
          [7, undefined],
        ],
      )
    }
  })

  it('has the bytes of the wire: offset, flags, name, content', () => {
    const { out } = pack(pageSet(pages, 2, 3), { name }, 2 ** 14, 5)
    const header = [0, 0, 0, 0, 0, 0, 0x20, 0x08, 6, ...name]
    assert.deepEqual([...out.subarray(5, 20)], header)
    assert.deepEqual(out.slice(20, 20 + 4096), pageContent(2))
    assert.deepEqual([...out.subarray(4116, 4125)], [0, 0, 0, 0, 0, 0, 0x30, 0x22, 0])
    assert.deepEqual([...out.subarray(0, 5)], [0, 0, 0, 0, 0])
    assert.equal(out.subarray(4125).some(Boolean), false)
  })

  it('stops behind maxPages, and where the next page does not fit', () => {
    const set = [0, 1, 2, 3, 4, 5]
    const limited = pageSet(pages, ...set)
    assert.deepEqual(pack(limited, { maxPages: 4 }).next, 4)
    assert.deepEqual(pagesIn(limited), [4, 5])

    for (const [room, packed] of [
      [0, 0],
      [4103, 0],
      [4104, 1],
      [3 * 4104 + 8, 3],
      [3 * 4104 + 9, 4],
      [4 * 4104 + 8, 4],
      [4 * 4104 + 9, 5],
      [5 * 4104 + 9, 6],
    ] as const) {
      const bitmap = pageSet(pages, ...set)
      const { records, next } = pack(bitmap, {}, room)
      assert.equal(records.length, packed)
      assert.equal(next, packed === 6 ? pages : packed)
      assert.deepEqual(pagesIn(bitmap), set.slice(packed))
    }
    const named = pageSet(pages, 0)
    assert.equal(pack(named, { name }, 4104 + 6).bytes, 0)
    assert.equal(pack(named, { name }, 4104 + 7).bytes, 4111)
  })

  it('never splits a host page', () => {
    const full = Array.from({ length: 24 }, (_, i) => 8 + i)
    // Two pages of eight are zero, but room is asked for as if none were.
    const first = 6 * 4104 + 2 * 9
    for (const [room, maxPages, packed] of [
      [8 * 4104 - 1, 100, 0],
      [8 * 4104, 100, 8],
      [first + 8 * 4104 - 1, 100, 8],
      [first + 8 * 4104, 100, 16],
      [2 ** 20, 1, 8],
      [2 ** 20, 8, 8],
      [2 ** 20, 9, 16],
      [2 ** 20, 100, 24],
    ] as const) {
      const bitmap = pageSet(pages, ...full)
      const { records, next } = pack(bitmap, { hostPages: 8, maxPages }, room)
      assert.deepEqual(
        records.map(({ page }) => page),
        full.slice(0, packed),
      )
      assert.equal(next, packed === 24 ? pages : 8 + packed)
      assert.deepEqual(pagesIn(bitmap), full.slice(packed))
    }
  })

  it('starts a host page anew only at its border', () => {
    const bitmap = pageSet(pages, 17, 18)
    const { records, next } = pack(bitmap, { hostPages: 8, maxPages: 1 })
    assert.deepEqual(
      records.map(({ page }) => page),
      [17, 18],
    )
    assert.equal(next, 24)
  })

  it('refuses ranges outside the region or the bitmap, and bad names', () => {
    const bitmap = pageSet(pages, 1)
    for (const options of [
      { to: pages + 1 },
      { from: 5, to: 4 },
      { hostPages: 8, from: 4 },
      { hostPages: 0 },
      { name: new Uint8Array(0) },
      { name: new Uint8Array(256) },
    ]) {
      assert.throws(() => pack(bitmap, options), RangeError)
    }
    assert.throws(() => pack(bitmap.subarray(1), {}), RangeError)
    assert.throws(() => pack(bitmap, {}, 10, 11), RangeError)
    const region = makeRegion('anon', 1)
    region.close()
    const closed = () =>
      packPages(region, bitmap, { from: 0, to: 1 }, new Uint8Array(1), 0, new Float64Array(3))
    assert.throws(closed, { code: 'ERR_CLOSED' })
  })
})

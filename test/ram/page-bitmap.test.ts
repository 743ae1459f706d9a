import assert from 'node:assert/strict'
import { PageBitmap } from '../../src/ram/page-bitmap.js'

/** More pages than a word has; the last word and the last byte are partial. */
const PAGES = 70

function bitmapOf(...pages: readonly number[]): PageBitmap {
  const bitmap = new PageBitmap(PAGES)
  for (const page of pages) bitmap.set(page)
  return bitmap
}

function pagesIn(bitmap: PageBitmap): number[] {
  return Array.from({ length: bitmap.pageCount }, (_, page) => page).filter((page) =>
    bitmap.test(page),
  )
}

describe('PageBitmap', () => {
  it('is empty at first, and padded to 8 bytes as on the wire', () => {
    const lengths = [0, 1, 64, 65, 128].map((pages) => new PageBitmap(pages).bytes.length)
    assert.deepEqual(lengths, [0, 8, 8, 16, 16])
    const bitmap = new PageBitmap(PAGES)
    assert.equal(bitmap.count(), 0)
    assert.equal(bitmap.next(), -1)
    assert.deepEqual([...bitmap.runs()], [])
  })

  it('has the least significant bit first', () => {
    const bitmap = bitmapOf(0, 9, 69)
    assert.deepEqual([...bitmap.bytes], [1, 2, 0, 0, 0, 0, 0, 0, 1 << 5, 0, 0, 0, 0, 0, 0, 0])
    bitmap.clear(9)
    assert.deepEqual(pagesIn(bitmap), [0, 69])
  })

  it('sets all of its pages and no bit after them', () => {
    const bitmap = new PageBitmap(PAGES)
    bitmap.setAll()
    assert.equal(bitmap.count(), PAGES)
    assert.deepEqual([...bitmap.bytes.subarray(8)], [0x3f, 0, 0, 0, 0, 0, 0, 0])
  })

  it('changes exactly a range, across bytes and words', () => {
    for (const [from, to] of [
      [0, 1],
      [7, 9],
      [3, 3],
      [60, 70],
      [69, 70],
    ] as const) {
      const inside = (page: number): boolean => page >= from && page < to
      const pages = Array.from({ length: PAGES }, (_, page) => page)
      const set = new PageBitmap(PAGES)
      set.setRange(from, to)
      assert.deepEqual(pagesIn(set), pages.filter(inside))
      const cleared = new PageBitmap(PAGES)
      cleared.setAll()
      cleared.clearRange(from, to)
      assert.deepEqual(
        pagesIn(cleared),
        pages.filter((page) => !inside(page)),
      )
    }
  })

  it('counts and finds within a range only', () => {
    const bitmap = bitmapOf(3, 63, 64, 69)
    assert.equal(bitmap.count(4, 64), 1)
    assert.equal(bitmap.count(64), 2)
    assert.equal(bitmap.next(4), 63)
    assert.equal(bitmap.next(4, 63), -1)
    assert.equal(bitmap.next(65), 69)
    assert.equal(bitmap.next(69, 69), -1)
    assert.equal(bitmap.next(PAGES), -1)
  })

  it('does not find or count bits that belong to no page', () => {
    const bitmap = new PageBitmap(PAGES)
    bitmap.bytes.fill(0xff, 9)
    bitmap.bytes[8] = 0xc0
    assert.deepEqual([bitmap.count(), bitmap.next(), [...bitmap.runs()]], [0, -1, []])
  })

  it('tells whether all of a range is set', () => {
    const bitmap = bitmapOf(62, 63, 64, 65)
    assert.equal(bitmap.all(62, 66), true)
    assert.equal(bitmap.all(61, 66), false)
    assert.equal(bitmap.all(62, 67), false)
    assert.equal(bitmap.all(64, 65), true)
    assert.equal(bitmap.all(66, 67), false)
    assert.equal(bitmap.all(5, 5), true)
  })

  it('completes each host page that has a page, up to the end of the block', () => {
    const bitmap = bitmapOf(5, 65, 69)
    bitmap.roundOut(4)
    assert.deepEqual(pagesIn(bitmap), [4, 5, 6, 7, 64, 65, 66, 67, 68, 69])
    assert.deepEqual([...bitmap.bytes.subarray(8)], [0x3f, 0, 0, 0, 0, 0, 0, 0])
    bitmap.roundOut(1)
    assert.equal(bitmap.count(), 10)
  })

  it('lists runs in order, with those at both ends', () => {
    assert.deepEqual(
      [...bitmapOf(0, 1, 5, 63, 64, 69).runs()],
      [
        [0, 2],
        [5, 6],
        [63, 65],
        [69, 70],
      ],
    )
  })

  for (const count of [511, 512, 513, 1025]) {
    it(`lists ${count} runs, more than one call of the addon finds, each once`, () => {
      const bitmap = new PageBitmap(2 * count)
      for (let run = 0; run < count; run += 1) bitmap.set(2 * run + 1)
      const runs = [...bitmap.runs()]
      assert.equal(runs.length, count)
      assert.deepEqual(runs.at(-1), [2 * count - 1, 2 * count])
      assert(runs.every(([start, end], run) => start === 2 * run + 1 && end === start + 1))
    })
  }

  it('shares its bits by its bytes, and not with a copy', () => {
    const bitmap = bitmapOf(1)
    const view = new PageBitmap(PAGES, bitmap.bytes)
    const copy = bitmap.copy()
    bitmap.set(69)
    assert.deepEqual(pagesIn(view), [1, 69])
    assert.deepEqual(pagesIn(copy), [1])
    copy.set(2)
    assert.equal(bitmap.test(2), false)
    assert(bitmap.bytes.buffer instanceof SharedArrayBuffer)
  })

  it('finds the first page of both, of one only, and of neither', () => {
    const own = bitmapOf(0, 2, 66)
    const other = bitmapOf(0, 66)
    assert.equal(own.firstShared(other), 0)
    assert.equal(own.firstNotIn(other), 2)
    assert.equal(own.firstInNeither(other), 1)
    assert.equal(other.firstNotIn(own), -1)
    own.setRange(0, PAGES - 1)
    assert.equal(own.firstInNeither(other), PAGES - 1)
    own.clearRange(0, PAGES - 1)
    own.set(PAGES - 1)
    assert.equal(own.firstShared(other), -1)
  })

  it('finds no page after the last one', () => {
    const full = new PageBitmap(PAGES)
    full.setAll()
    const none = new PageBitmap(PAGES)
    assert.equal(full.firstInNeither(none), -1)
    full.bytes[8] = 0xff
    full.clearRange(0, PAGES)
    assert.equal(full.firstNotIn(none), -1)
    none.bytes[8] = 0xc0
    assert.equal(full.firstShared(none), -1)
  })

  it('adds, keeps and removes the pages of another', () => {
    const other = bitmapOf(1, 2, 69)
    const apply = (change: (bitmap: PageBitmap) => void): number[] => {
      const bitmap = bitmapOf(0, 2, 68, 69)
      change(bitmap)
      return pagesIn(bitmap)
    }
    assert.deepEqual(
      apply((bitmap) => bitmap.add(other)),
      [0, 1, 2, 68, 69],
    )
    assert.deepEqual(
      apply((bitmap) => bitmap.keep(other)),
      [2, 69],
    )
    assert.deepEqual(
      apply((bitmap) => bitmap.remove(other)),
      [0, 68],
    )
    assert.deepEqual(pagesIn(other), [1, 2, 69])
  })
})

import assert from 'node:assert/strict'
import fc from 'fast-check'
import {
  clearBits,
  countBits,
  findNext,
  findRuns,
  isZero,
  mergeBits,
  roundOut,
  setBits,
} from '../../src/kernel/index.js'

/** A slow implementation to compare with. */
function bit(bitmap: Uint8Array, page: number): boolean {
  return Math.floor((bitmap[Math.floor(page / 8)] ?? 0) / 2 ** (page % 8)) % 2 === 1
}

/** A bitmap at an odd address, between bytes that must not change, and a range in it. */
const bitmapAndRange = fc
  .tuple(
    fc.array(fc.oneof(fc.constant(0), fc.constant(255), fc.integer({ min: 0, max: 255 })), {
      minLength: 1,
      maxLength: 60,
    }),
    fc.nat(),
    fc.nat(),
  )
  .map(([bytes, a, b]) => {
    const whole = Uint8Array.of(0xa5, ...bytes, 0x5a)
    const pages = bytes.length * 8
    const [from = 0, to = 0] = [a % (pages + 1), b % (pages + 1)].sort((x, y) => x - y)
    return { whole, bitmap: whole.subarray(1, -1), from, to, pages }
  })

describe('bitmaps', () => {
  it('findNext, findRuns and countBits agree with a loop over bits', () => {
    fc.assert(
      fc.property(bitmapAndRange, ({ bitmap, from, to }) => {
        const pages = Array.from({ length: to - from }, (_, i) => from + i)
        const set = pages.filter((page) => bit(bitmap, page))
        assert.equal(findNext(bitmap, from, to), set[0] ?? -1)
        assert.equal(countBits(bitmap, from, to), set.length)
        const out = new Float64Array(2 * pages.length + 2)
        const runs = findRuns(bitmap, from, to, out)
        const listed: number[] = []
        for (let i = 0; i < runs; i += 1) {
          const [start = 0, end = 0] = out.subarray(i * 2)
          assert(end > start && (end === to || !bit(bitmap, end)))
          for (let page = start; page < end; page += 1) listed.push(page)
        }
        assert.deepEqual(listed, set)
      }),
    )
  })

  it('setBits and clearBits change their range and nothing around it', () => {
    fc.assert(
      fc.property(bitmapAndRange, fc.boolean(), ({ whole, bitmap, from, to, pages }, value) => {
        const before = bitmap.slice()
        const change = value ? setBits : clearBits
        let expected = 0
        for (let page = from; page < to; page += 1) expected += bit(before, page) === value ? 0 : 1
        assert.equal(change(bitmap, from, to), expected)
        for (let page = 0; page < pages; page += 1) {
          const inside = page >= from && page < to
          assert.equal(bit(bitmap, page), inside ? value : bit(before, page))
        }
        assert.deepEqual([whole[0], whole.at(-1)], [0xa5, 0x5a])
      }),
    )
  })

  it('roundOut sets whole host pages, the last one up to the end of the block', () => {
    fc.assert(
      fc.property(
        bitmapAndRange,
        fc.constantFrom(1, 2, 3, 16, 512),
        ({ whole, bitmap, to }, hostPages) => {
          const before = bitmap.slice()
          roundOut(bitmap, to, hostPages)
          for (let page = 0; page < bitmap.length * 8; page += 1) {
            const first = page - (page % hostPages)
            const last = Math.min(first + hostPages, to)
            const wanted = page < to && countBits(before, first, last) > 0
            assert.equal(bit(bitmap, page), page < to ? wanted : bit(before, page))
          }
          assert.deepEqual([whole[0], whole.at(-1)], [0xa5, 0x5a])
        },
      ),
    )
  })

  it('findRuns fills the given array, and can continue from the last end', () => {
    const bitmap = Uint8Array.of(0b01010101, 0b00000001)
    const out = new Float64Array(5)
    assert.equal(findRuns(bitmap, 0, 16, out), 2)
    assert.deepEqual([...out.subarray(0, 4)], [0, 1, 2, 3])
    assert.equal(findRuns(bitmap, 3, 16, out), 2)
    assert.deepEqual([...out.subarray(0, 4)], [4, 5, 6, 7])
    assert.equal(findRuns(bitmap, 7, 16, out), 1)
  })

  it('may lie on a SharedArrayBuffer', () => {
    const bitmap = new Uint8Array(new SharedArrayBuffer(16), 3, 9)
    assert.equal(setBits(bitmap, 5, 70), 65)
    assert.equal(findNext(bitmap, 0, 72), 5)
    assert.equal(countBits(bitmap, 0, 72), 65)
  })

  it('reject ranges outside the bitmap and arguments of other types', () => {
    const bitmap = new Uint8Array(2)
    const out = new Float64Array(2)
    for (const [from, to] of [
      [0, 17],
      [5, 4],
      [-1, 3],
      [0.5, 3],
      [0, Infinity],
      [NaN, 1],
    ] as const) {
      assert.throws(() => findNext(bitmap, from, to), RangeError)
      assert.throws(() => setBits(bitmap, from, to), RangeError)
      assert.throws(() => findRuns(bitmap, from, to, out), RangeError)
    }
    assert.throws(() => roundOut(bitmap, 17, 1), RangeError)
    assert.throws(() => roundOut(bitmap, 16, 0), RangeError)
    assert.throws(() => findRuns(bitmap, 0, 1, new Float64Array(1)), RangeError)
    // @ts-expect-error not a Uint8Array
    assert.throws(() => countBits(new Uint16Array(2), 0, 1), TypeError)
    // @ts-expect-error not a number
    assert.throws(() => findNext(bitmap, '0', 1), TypeError)
  })

  it('mergeBits adds, keeps and removes, page by page', () => {
    const merged = (how: 'add' | 'keep' | 'remove'): number[] => {
      const own = Uint8Array.of(0b0011, 0xff, 0x55)
      mergeBits(own, Uint8Array.of(0b0101, 0x0f), how)
      return [...own]
    }
    assert.deepEqual(merged('add'), [0b0111, 0xff, 0x55])
    assert.deepEqual(merged('keep'), [0b0001, 0x0f, 0x55])
    assert.deepEqual(merged('remove'), [0b0010, 0xf0, 0x55])
    // @ts-expect-error none of them
    assert.throws(() => mergeBits(new Uint8Array(1), new Uint8Array(1), 'xor'), RangeError)
  })

  it('isZero detects any single byte, at any length', () => {
    for (const length of [0, 1, 7, 63, 64, 65, 130, 4096]) {
      const bytes = new Uint8Array(length + 1).subarray(1)
      assert.equal(isZero(bytes), true)
      for (let i = 0; i < length; i += Math.max(1, Math.floor(length / 131))) {
        bytes[i] = 1
        assert.equal(isZero(bytes), false)
        bytes[i] = 0
      }
    }
  })
})

import assert from 'node:assert/strict'
import fc from 'fast-check'
import { checksumPages, checksumRecords, crc32c } from '../../src/kernel/internal.js'

const text = (value: string): Uint8Array => new TextEncoder().encode(value)

describe('CRC-32C', () => {
  const known: readonly (readonly [string, Uint8Array, number])[] = [
    ['nothing', new Uint8Array(0), 0],
    ['"123456789"', text('123456789'), 0xe3069283],
    ['32 zeros (RFC 3720)', new Uint8Array(32), 0x8a9136aa],
    ['32 ones (RFC 3720)', new Uint8Array(32).fill(0xff), 0x62a8ab43],
    ['ascending bytes (RFC 3720)', Uint8Array.from({ length: 32 }, (_, at) => at), 0x46dd794e],
  ]
  for (const [what, bytes, expected] of known) {
    it(`of ${what} is known`, () => {
      assert.equal(crc32c(0, bytes), expected)
      assert.equal(crc32c(0, bytes, { portable: true }), expected)
    })
  }

  it('is the same with and without the instruction, at any length and in any pieces', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), fc.nat(200), (bytes, cut) => {
        const whole = crc32c(0, bytes, { portable: true })
        assert.equal(crc32c(0, bytes), whole)
        const first = crc32c(0, bytes.subarray(0, cut))
        assert.equal(crc32c(first, bytes.subarray(cut)), whole)
      }),
    )
  })

  it('of pages is 0 for a page of zeros, at any place among others', () => {
    for (let count = 1; count < 8; count += 1) {
      const bytes = new Uint8Array(count * 4096)
      const values = new Uint8Array(count * 4).fill(7)
      checksumPages(bytes, values)
      assert.deepEqual(values, new Uint8Array(count * 4))
      const last = bytes.length - 1
      bytes[last] = 1
      checksumPages(bytes, values)
      const alone = new Uint8Array(4)
      checksumPages(bytes.subarray(-4096), alone)
      assert.notDeepEqual(alone, new Uint8Array(4))
      assert.deepEqual(values.subarray(-4), alone)
    }
  })

  it('refuses parts of pages, and too few values', () => {
    assert.throws(() => checksumPages(new Uint8Array(4097), new Uint8Array(8)), RangeError)
    assert.throws(() => checksumPages(new Uint8Array(8192), new Uint8Array(7)), RangeError)
    assert.throws(() => checksumRecords(new Uint8Array(4), 0, new Uint8Array(9), 5, 4), RangeError)
    assert.throws(() => crc32c(2 ** 32, new Uint8Array(1)), RangeError)
  })
})

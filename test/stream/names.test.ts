import assert from 'node:assert/strict'
import fc from 'fast-check'
import { decodeName, encode, encodeName, Reader } from '../../src/stream/index.js'

describe('a name on the wire', () => {
  it('is UTF-8', () => {
    for (const name of ['pc.ram', 'Größe', '内存 0', '\ufeffbom', '🐧']) {
      assert.deepEqual(Buffer.from(encodeName(name)), Buffer.from(name))
      assert.equal(decodeName(Buffer.from(name)), name)
    }
  })

  it('is encoded to the same bytes again, for any bytes', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 20 }), (bytes) => {
        assert.deepEqual(Buffer.from(encodeName(decodeName(bytes))), Buffer.from(bytes))
      }),
    )
  })

  it('is decoded to the same text again, or refused', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', maxLength: 8 }), (text) => {
        assert.equal(decodeName(encodeName(text)), text)
      }),
    )
    for (const text of ['\ud800', 'a\udc7f', '\udcc3\udca9', 'é\udc80', '\udfff']) {
      assert.throws(() => encodeName(text), RangeError, JSON.stringify(text))
    }
  })

  it('has its length in bytes before it', () => {
    const bytes = encode((out) => out.str8('内存').str32('é'))
    assert.equal(bytes.length, 1 + 6 + 4 + 2)
    const reader = new Reader(bytes)
    assert.equal(reader.str8(), '内存')
    assert.equal(reader.name(reader.u32()), 'é')
  })
})

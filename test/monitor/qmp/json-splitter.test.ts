import assert from 'node:assert/strict'
import fc from 'fast-check'
import { type JsonPiece, JsonSplitter } from '../../../src/monitor/qmp/json-splitter.js'
import { bounded } from '../../fuzz/bounded.js'

/** The result of splitting these chunks; errors as their text. */
function split(...chunks: readonly (string | Uint8Array)[]): unknown[] {
  const splitter = new JsonSplitter()
  const pieces: JsonPiece[] = []
  for (const chunk of chunks) pieces.push(...splitter.split(Buffer.from(chunk)))
  pieces.push(...splitter.end())
  return pieces.map((piece) => ('error' in piece ? piece.error : piece.value))
}

describe('JSON values in a stream of bytes', () => {
  const good: readonly (readonly [string, unknown[]])[] = [
    ['', []],
    [' \r\n\t\n', []],
    ['{}{}\n{}', [{}, {}, {}]],
    ['{"a":\n{"b":[1,\n2]}}', [{ a: { b: [1, 2] } }]],
    ['{"a":"}{]["}', [{ a: '}{][' }]],
    ['{"a":"\\"}\\\\"}', [{ a: '"}\\' }]],
    ['[1]"x"5 true\nnull', [[1], 'x', 5, true, null]],
    ['{"ä":"\u{1f600}"}', [{ ä: '\u{1f600}' }]],
  ]
  for (const [text, values] of good) {
    it(`finds ${values.length} in ${JSON.stringify(text)}, cut at any byte`, () => {
      const bytes = Buffer.from(text)
      assert.deepEqual(split(bytes), values)
      assert.deepEqual(split(...Array.from(bytes, (byte) => Uint8Array.of(byte))), values)
      for (let at = 1; at < bytes.length; at += 1) {
        assert.deepEqual(split(bytes.subarray(0, at), bytes.subarray(at)), values)
      }
    })
  }

  const bad: readonly (readonly [string, string | Uint8Array, RegExp])[] = [
    ['a bare word', 'garbage', /^JSON parse error, invalid keyword 'garbage'$/],
    ['a stray brace', '}', /^JSON parse error, expecting value$/],
    ['brackets that do not match', '{]', /^JSON parse error, expecting value$/],
    ['an extra comma', '{"a":1,}', /^JSON parse error, /],
    ['a string that continues on the next line', '{"a":"b', /^JSON parse error, control character/],
    ['a byte that is not UTF-8', Uint8Array.of(0x7b, 0xff), /^JSON parse error, stray byte/],
    ['a string that is not UTF-8', Uint8Array.of(0x22, 0xc3, 0x28, 0x22), /invalid UTF-8 sequence/],
    ['deep nesting', '['.repeat(1025), /^JSON nesting depth limit exceeded$/],
    ['an endless string', `"${'x'.repeat(2 ** 20)}`, /^JSON token size limit exceeded$/],
    ['an endless word', 'x'.repeat(2 ** 20 + 1), /^JSON token size limit exceeded$/],
  ]
  for (const [what, input, error] of bad) {
    it(`rejects ${what} once, and continues at the next line`, () => {
      const [first, ...rest] = split(input, '\n{"a":1}')
      assert.match(String(first), error)
      assert.deepEqual(rest, [{ a: 1 }])
    })
  }

  it('continues at an opening brace: a client may send 0xff to reset the parser', () => {
    const [error, value, ...rest] = split('{"a":', Uint8Array.of(0xff), '{"b":2}')
    assert.match(String(error), /^JSON parse error/)
    assert.deepEqual([value, rest], [{ b: 2 }, []])
  })

  it('reports a premature end', () => {
    assert.deepEqual(split('{"a":'), ['JSON parse error, premature end of input'])
  })

  it('accepts the largest value, and nothing larger, in chunks of any size', () => {
    for (const chunkBytes of [1000, 65536, 2 ** 22]) {
      const splitString = (bytes: number): unknown[] => {
        const text = `"${'x'.repeat(bytes - 2)}"\n`
        const chunks = Array.from({ length: Math.ceil(text.length / chunkBytes) }, (_, index) =>
          text.slice(index * chunkBytes, (index + 1) * chunkBytes),
        )
        return split(...chunks)
      }
      assert.equal(String(splitString(2 ** 20)[0]).length, 2 ** 20 - 2)
      // Shortened, to keep the message of a failure readable.
      const refused = splitString(2 ** 20 + 1).map((piece) => String(piece).slice(0, 40))
      assert.deepEqual(refused, ['JSON token size limit exceeded'])
    }
  })

  it('finds any values in any chunks', () => {
    const cuts = fc.array(fc.nat(200), { maxLength: 5 })
    fc.assert(
      fc.property(fc.array(fc.json(), { maxLength: 4 }), cuts, (texts, at) => {
        const bytes = Buffer.from(texts.join('\n'))
        const edges = at.filter((edge) => edge < bytes.length).sort((a, b) => a - b)
        const chunks = [0, ...edges].map((edge, index) => bytes.subarray(edge, edges[index]))
        assert.deepEqual(
          split(...chunks),
          texts.map((text) => JSON.parse(text) as unknown),
        )
      }),
    )
  })

  it('uses little more than the bytes of a value that is received byte by byte', () => {
    const lengthBytes = 2 ** 19
    const splitter = new JsonSplitter()
    bounded(lengthBytes, () => {
      const byte = Uint8Array.of(0x22)
      for (let at = 0; at < lengthBytes; at += 1) {
        assert.deepEqual([...splitter.split(byte)], [])
        byte[0] = 0x78
      }
    })
    assert.equal([...splitter.split(Uint8Array.of(0x22))].length, 1)
  })

  it('parses valid values again after any bytes', () => {
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ maxLength: 50 })), (chunks) => {
        const last = split(...chunks, '\n', Uint8Array.of(0xff), '\n{"last":1}').at(-1)
        assert.deepEqual(last, { last: 1 })
      }),
    )
  })
})

/** Sections and records that are written into a buffer have the bytes of the encoder. */
import assert from 'node:assert/strict'
import {
  RAM_PAGE_RECORD_BYTES,
  RAM_RECORD_HEAD_BYTES,
  RAM_ZERO_RECORD_BYTES,
  RamFlag,
  encode,
  encodeFooter,
  encodeRamEndOfSection,
  encodeRamPage,
  encodeRamZero,
  encodeSectionEnd,
  encodeSectionPart,
} from '../../src/stream/index.js'
import {
  RAM_SECTION_TAIL_BYTES,
  writeRamRecordHead,
  writeRamSectionHead,
  writeRamSectionTail,
} from '../../src/stream/internal.js'

describe('a ram section in a buffer', () => {
  for (const id of [2, 0xfedcba98]) {
    it(`begins and ends as the encoder writes it: id ${id}`, () => {
      const out = new Uint8Array(64).fill(0xee)
      for (const [kind, encodeHead] of [
        ['part', encodeSectionPart],
        ['end', encodeSectionEnd],
      ] as const) {
        const start = writeRamSectionHead(out, kind, id)
        assert.deepEqual(out.slice(0, start), Uint8Array.from(encode((w) => encodeHead(w, id))))
      }
      const end = writeRamSectionTail(out, 20, id)
      const tail = encode((writer) => {
        encodeRamEndOfSection(writer)
        encodeFooter(writer, id)
      })
      assert.deepEqual(out.slice(20, end), Uint8Array.from(tail))
      assert.equal(end - 20, RAM_SECTION_TAIL_BYTES)
      assert.deepEqual([out[19], out[end]], [0xee, 0xee])
    })
  }

  for (const offset of [0, 0x12345000, 2 ** 40 + 4096]) {
    it(`has records as the encoder writes them: offset ${offset}`, () => {
      const page = encode((writer) => {
        encodeRamPage(writer, undefined, offset, new Uint8Array(4096))
      })
      const zero = encode((writer) => {
        encodeRamZero(writer, undefined, offset)
      })
      assert.deepEqual([page.length, zero.length], [RAM_PAGE_RECORD_BYTES, RAM_ZERO_RECORD_BYTES])
      for (const [kind, record] of [
        [RamFlag.page, page],
        [RamFlag.zero, zero],
      ] as const) {
        const out = new Uint8Array(RAM_ZERO_RECORD_BYTES).fill(0xee)
        writeRamRecordHead(out, kind, offset)
        const head = Uint8Array.from(record.subarray(0, RAM_RECORD_HEAD_BYTES))
        assert.deepEqual(out, Uint8Array.of(...head, 0xee))
      }
    })
  }
})

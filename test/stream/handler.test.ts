import { deepStrictEqual, ok, strictEqual, throws } from 'node:assert/strict'
import * as stream from '../../src/stream/index.js'
import { refuses } from './refuses.js'
import * as short from './short-stream.js'

/** A stream of `count` pages of one block in one PART, all but the first with CONTINUE. */
function pagesOf(count: number): Uint8Array {
  return stream.encode((out) => {
    short.prologue(out)
    short.part(out, count)
  })
}

describe('a handler', () => {
  it('gets pages as views of the input', () => {
    const input = pagesOf(2)
    const starts: number[] = []
    new stream.StreamDecoder({
      ramPage: (_block, _offset, bytes, start) => {
        strictEqual(bytes, input)
        deepStrictEqual(bytes.subarray(start, start + 4096), short.page)
        starts.push(start)
      },
    }).write(input)
    deepStrictEqual(starts.length, 2)
  })

  it('takes records in bulk after the first record with a name', () => {
    const calls: [string, number][] = []
    let pages = 0
    new stream.StreamDecoder({
      ramRecords: (block, _bytes, start, end) => {
        calls.push([block, end - start])
        return 8 * 4104
      },
      ramPage: () => {
        pages += 1
      },
    }).write(pagesOf(9))
    // Eight records, then EOS and footer.
    deepStrictEqual(calls, [['m', 8 * 4104 + 13]])
    strictEqual(pages, 1)
  })

  it('is called again after each record that it did not take', () => {
    let calls = 0
    let pages = 0
    new stream.StreamDecoder({
      ramRecords: () => {
        calls += 1
        return 0
      },
      ramPage: () => {
        pages += 1
      },
    }).write(pagesOf(4))
    strictEqual(calls, 3)
    strictEqual(pages, 4)
  })

  it('is not called for an incomplete record', () => {
    let calls = 0
    const decoder = new stream.StreamDecoder({
      ramRecords: () => {
        calls += 1
        return 4104
      },
    })
    const input = pagesOf(2)
    // All but the last byte of the second page, EOS and footer.
    decoder.write(input, 0, input.length - 14)
    strictEqual(calls, 0)
  })

  it('cannot take more bytes than there are', () => {
    for (const taken of [-1, 0.5, 1e9]) {
      const decoder = new stream.StreamDecoder({ ramRecords: () => taken })
      throws(() => decoder.write(pagesOf(3)), RangeError)
    }
  })

  it('can stop the decoder after an element, and continue later', () => {
    const input = pagesOf(3)
    const offsets: number[] = []
    const decoder = new stream.StreamDecoder({
      ramPage: (_block, offset) => {
        offsets.push(offset)
        decoder.stop()
      },
    })
    let at = 0
    for (const expected of [[0], [0, 4096], [0, 4096, 8192]]) {
      at += decoder.write(input, at)
      deepStrictEqual(offsets, expected)
    }
    strictEqual(at + decoder.write(input, at), input.length)
  })

  it('can stop the decoder before a record', () => {
    const input = pagesOf(3)
    let pages = 0
    const decoder = new stream.StreamDecoder({
      ramRecords: () => {
        decoder.stop()
        return 0
      },
      ramPage: () => {
        pages += 1
      },
    })
    const consumed = decoder.write(input)
    strictEqual(pages, 1)
    strictEqual(input.length - consumed, 2 * 4104 + 13)
    strictEqual(decoder.streamOffset, consumed)
  })

  it('ends its decoder when it throws', () => {
    const error = new Error('no such device')
    const decoder = new stream.StreamDecoder({
      ping: () => {
        throw error
      },
    })
    throws(() => decoder.write(pagesOf(1)), error)
    throws(() => decoder.write(new Uint8Array(1)), error)
  })

  it('must not call its own decoder', () => {
    const decoder = new stream.StreamDecoder({
      ping: () => {
        decoder.write(new Uint8Array(1))
      },
    })
    throws(() => decoder.write(pagesOf(1)), TypeError)
  })

  it('gets its own copies of blobs and configuration', () => {
    const kept: Uint8Array[] = []
    const input = Buffer.from(short.postcopyStream())
    new stream.StreamDecoder({
      configuration: (_machineType, raw) => {
        kept.push(raw)
      },
      packaged: (blob) => {
        kept.push(blob)
        strictEqual(blob.buffer.byteLength, blob.length)
      },
    }).write(input)
    const before = kept.map((bytes) => Buffer.from(bytes))
    input.fill(0xee)
    deepStrictEqual(
      kept.map((bytes) => Buffer.from(bytes)),
      before,
    )
  })
})

describe('memory', () => {
  /** A prologue, then `announce` and the first `arrived` bytes that it announces. */
  function feed(limits: Partial<stream.StreamLimits>, announce: string, arrived: number): void {
    const decoder = new stream.StreamDecoder({}, { limits })
    decoder.write(stream.encode(short.prologue))
    decoder.write(Buffer.from(announce, 'hex'))
    for (let left = arrived; left > 0; left -= 1024) decoder.write(new Uint8Array(1024))
  }

  it('depends on received bytes, not on announced lengths', () => {
    const before = process.memoryUsage().arrayBuffers
    for (let i = 0; i < 64; i += 1) {
      feed({ maxPackageBytes: 2 ** 32 - 1 }, '0800070004ffffffff', 1024)
    }
    const growth = process.memoryUsage().arrayBuffers - before
    ok(growth < 64 * 2 ** 20, `${growth} bytes for 64 packages of 4 GiB announced`)
  })

  it('is bounded for a package', () => {
    feed({ maxPackageBytes: 100 }, '080007000400000064', 0)
    const error = refuses(() => {
      feed({ maxPackageBytes: 100 }, '080007000400000065', 0)
    }, 'ERR_STREAM_LIMIT')
    strictEqual(error.streamOffset, stream.encode(short.prologue).length)
  })

  it('is bounded for a device tail that does not end', () => {
    const end = '03000000020000000000000010' + '7e00000002' + '04'
    feed({ maxDeviceTailBytes: 4097 }, end, 4096)
    refuses(() => {
      feed({ maxDeviceTailBytes: 4097 }, end, 5120)
    }, 'ERR_STREAM_LIMIT')
  })

  it('of a caller need not exceed the documented look-ahead', () => {
    const ranges = new Float64Array(2 * 4095).fill(4096)
    const biggest = stream.encode((out) => {
      out
        .u8(8)
        .u16(stream.Command.ramDiscard)
        .u16(4 + ranges.length * 8)
      out.u8(0).str8('m').u8(0)
      for (const value of ranges) out.u64(value)
    })
    ok(biggest.length <= stream.MAX_LOOK_AHEAD_BYTES)
    let pairs = 0
    const decoder = new stream.StreamDecoder({
      ramDiscard: (_block, list) => {
        pairs = list.length / 2
      },
    })
    decoder.write(stream.encode(short.prologue))
    strictEqual(decoder.write(biggest, 0, biggest.length - 1), 0)
    strictEqual(decoder.write(biggest), biggest.length)
    strictEqual(pairs, 4095)
  })
})

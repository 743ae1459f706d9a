import { ok } from 'node:assert/strict'
import fc from 'fast-check'
import * as stream from '../../src/stream/index.js'
import { anyStream } from './arbitrary.js'
import { recordReturnPath, recordStream } from './events.js'
import * as short from './short-stream.js'

/** Feeds a decoder, which may throw a StreamError only. */
function feed(decoder: stream.ChannelDecoder, bytes: Uint8Array, pieces: number): void {
  const feeder = new stream.StreamFeeder(decoder)
  try {
    const step = Math.ceil(bytes.length / pieces) + 1
    for (let at = 0; at < bytes.length; at += step) {
      feeder.push(bytes.subarray(at, at + step))
      ok(feeder.leftoverBytes < stream.MAX_LOOK_AHEAD_BYTES)
    }
    feeder.end()
  } catch (error) {
    if (!(error instanceof stream.StreamError)) throw error
    ok(error.streamOffset >= 0 && error.streamOffset <= bytes.length, error.message)
  }
}

const channels: Record<string, () => stream.ChannelDecoder> = {
  'the main channel': () => new stream.StreamDecoder(recordStream([])),
  'a recovered main channel': () => {
    const resume = { ramSectionId: short.RAM_ID, blocks: short.blocks }
    return new stream.StreamDecoder(recordStream([]), { resume })
  },
  'the return path': () => new stream.ReturnPathDecoder(recordReturnPath([]), short.blocks),
  'a preempt channel': () => new stream.PreemptDecoder(recordStream([]), short.blocks),
}

/** Boundary values of parsers are more frequent. */
const byte = fc.oneof(fc.constantFrom(0, 1, 2, 4, 8, 0x10, 0x20, 0x7e, 0xff), fc.nat(255))
const garbage = fc.array(byte, { maxLength: 200 }).map((bytes) => Uint8Array.from(bytes))

/** Overwrites, removes or repeats a piece. */
const mutation = fc.record({
  at: fc.double({ min: 0, max: 1, noNaN: true }),
  length: fc.nat(12),
  bytes: garbage.map((bytes) => bytes.subarray(0, 6)),
  kind: fc.constantFrom('overwrite', 'remove', 'repeat'),
})

function mutate(
  bytes: Uint8Array,
  mutations: (typeof mutation extends fc.Arbitrary<infer T> ? T : never)[],
) {
  let result = Buffer.from(bytes)
  for (const { at, length, bytes: patch, kind } of mutations) {
    const start = Math.floor(at * result.length)
    if (kind === 'overwrite') result.set(patch.subarray(0, result.length - start), start)
    else {
      const piece = result.subarray(start, start + length)
      const rest = result.subarray(start + length)
      const middle = kind === 'remove' ? patch : Buffer.concat([piece, piece])
      result = Buffer.concat([result.subarray(0, start), middle, rest])
    }
  }
  return result
}

const pieces = fc.integer({ min: 1, max: 9 })

describe('garbage', () => {
  for (const [title, make] of Object.entries(channels)) {
    it(`on ${title} gives a StreamError at worst`, () => {
      fc.assert(
        fc.property(garbage, pieces, (bytes, count) => {
          feed(make(), bytes, count)
        }),
        { numRuns: 500 },
      )
    })
  }

  it('after a valid prologue gives a StreamError at worst', () => {
    const prologue = stream.encode(short.prologue)
    fc.assert(
      fc.property(garbage, pieces, (bytes, count) => {
        feed(new stream.StreamDecoder({}), Buffer.concat([prologue, bytes]), count)
      }),
      { numRuns: 500 },
    )
  })

  it('in the middle of a valid stream gives a StreamError at worst', () => {
    fc.assert(
      fc.property(
        anyStream,
        fc.array(mutation, { minLength: 1, maxLength: 3 }),
        pieces,
        ({ bytes }, mutations, count) => {
          feed(new stream.StreamDecoder(recordStream([])), mutate(bytes, mutations), count)
        },
      ),
      { numRuns: 300 },
    )
  })

  it('in a return path gives a StreamError at worst', () => {
    const good = Buffer.concat(short.returnPathMessages())
    fc.assert(
      fc.property(
        fc.array(mutation, { minLength: 1, maxLength: 3 }),
        pieces,
        (mutations, count) => {
          const decoder = new stream.ReturnPathDecoder(recordReturnPath([]), short.blocks)
          feed(decoder, mutate(good, mutations), count)
        },
      ),
      { numRuns: 300 },
    )
  })

  it('in a package gives a StreamError at worst', () => {
    const good = stream.encodePackage(short.devices())
    fc.assert(
      fc.property(fc.array(mutation, { minLength: 1, maxLength: 3 }), (mutations) => {
        const blob = mutate(good, mutations)
        const device = (header: stream.SectionHeader, body: stream.Reader) => {
          body.bytes(header.idstr === 'globalstate' ? 12 : 17)
        }
        for (const run of [
          () => {
            stream.decodePackage(blob, { device })
          },
          () => stream.findPackagePings(blob),
        ]) {
          try {
            run()
          } catch (error) {
            if (!(error instanceof stream.StreamError)) throw error
          }
        }
      }),
      { numRuns: 300 },
    )
  })

  it('with many apparent ends of a device tail takes linear time', () => {
    // Footer, EOF, and a description of all that follows: each is a candidate until the next one.
    const bait = Buffer.from('7e0000000100060000ffff7b', 'hex')
    const decoder = new stream.StreamDecoder({})
    decoder.write(stream.encode(short.prologue))
    decoder.write(Buffer.from('0300000002' + '0000000000000010' + '7e00000002' + '04', 'hex'))
    const block = Buffer.concat(Array.from({ length: 5000 }, () => bait))
    const started = performance.now()
    for (let i = 0; i < 100; i += 1) decoder.write(block)
    const elapsedMs = performance.now() - started
    ok(elapsedMs < 5000, `${elapsedMs} ms for ${100 * block.length} bytes`)
  })
})

import { deepStrictEqual, ok, strictEqual } from 'node:assert/strict'
import fc from 'fast-check'
import * as stream from '../../src/stream/index.js'
import { anyStream } from './arbitrary.js'
import { type Event, recordReturnPath, recordStream, withBulkHook } from './events.js'
import { refuses } from './refuses.js'
import { golden } from './golden.js'
import { decodeNaively } from './naive-decoder.js'
import * as short from './short-stream.js'

interface Case {
  readonly title: string
  readonly bytes: Uint8Array
  readonly make: (events: Event[]) => stream.ChannelDecoder
  /** Lengths at which the channel may end. */
  readonly ends: readonly number[]
}

const main = (events: Event[]) => new stream.StreamDecoder(recordStream(events))

function inPieces(pieces: Uint8Array[]): { bytes: Uint8Array; ends: number[] } {
  const ends = [0]
  for (const piece of pieces) ends.push((ends.at(-1) ?? 0) + piece.length)
  return { bytes: Buffer.concat(pieces), ends }
}

/** The offset of device data that looks like a footer and EOF; only the device can find its real end. */
function trapsOf(bytes: Uint8Array): number {
  return Buffer.from(bytes).indexOf(Buffer.from('7e0000000500', 'hex')) + 6
}

const precopy = short.precopyStream(1)
const bare = short.precopyStream(0, null)
const cases: Case[] = [
  {
    title: 'a precopy',
    make: main,
    bytes: precopy,
    // A source without a description ends right after the EOF.
    ends: [trapsOf(precopy), precopy.length - 15, precopy.length],
  },
  {
    title: 'a precopy without description',
    make: main,
    bytes: bare,
    ends: [trapsOf(bare), bare.length],
  },
  {
    title: 'a postcopy',
    make: main,
    bytes: short.postcopyStream(1),
    ends: [short.postcopyStream(1).length],
  },
  {
    title: 'a recovered connection',
    make: (events) => {
      const resume = { ramSectionId: short.RAM_ID, blocks: short.blocks }
      return new stream.StreamDecoder(recordStream(events), { resume })
    },
    bytes: short.recoveredStream(),
    ends: [short.recoveredStream().length],
  },
  {
    title: 'a return path',
    make: (events) => new stream.ReturnPathDecoder(recordReturnPath(events), short.blocks),
    ...inPieces(short.returnPathMessages()),
  },
  {
    title: 'a preempt channel',
    make: (events) => new stream.PreemptDecoder(recordStream(events), short.blocks),
    ...inPieces(short.preemptRecords()),
  },
]

/** All events of a decoder for `bytes`, given in pieces that end at `cuts`. */
function decode(make: Case['make'], bytes: Uint8Array, cuts: readonly number[] = []): Event[] {
  const events: Event[] = []
  const feeder = new stream.StreamFeeder(make(events))
  let from = 0
  for (const cut of [...cuts, bytes.length]) {
    // A copy that is overwritten at once: the decoder must not keep references to a chunk.
    const chunk = Buffer.from(bytes.subarray(from, cut))
    feeder.push(chunk)
    chunk.fill(0xee)
    from = cut
  }
  feeder.end()
  return events
}

describe('any split of the bytes', () => {
  for (const { title, make, bytes, ends } of cases) {
    const whole = decode(make, bytes)

    it(`gives the same events for ${title} cut in two at every byte`, () => {
      ok(whole.length > 3)
      for (let cut = 0; cut <= bytes.length; cut += 1) {
        deepStrictEqual(decode(make, bytes, [cut]), whole, `cut at ${cut}`)
      }
    })

    it(`gives the same events for ${title} fed byte by byte`, () => {
      const everywhere = Array.from({ length: bytes.length }, (_, i) => i)
      deepStrictEqual(decode(make, bytes, everywhere), whole)
    })

    it(`reports ${title} as incomplete if it is truncated at any byte`, () => {
      for (let length = 0; length < bytes.length; length += 1) {
        const events: Event[] = []
        const feeder = new stream.StreamFeeder(make(events))
        feeder.push(bytes.subarray(0, length))
        deepStrictEqual(events, whole.slice(0, events.length), `${length} bytes`)
        if (ends.includes(length)) feeder.end()
        else
          refuses(
            () => {
              feeder.end()
            },
            'ERR_STREAM_TRUNCATED',
            `${length} bytes`,
          )
      }
    })

    it(`refuses a byte after the end of ${title}`, () => {
      const decoder = make([])
      decoder.write(bytes)
      if (!decoder.finished) decoder.end()
      strictEqual(decoder.finished, true)
      refuses(() => decoder.write(Uint8Array.of(0)), 'ERR_STREAM_ELEMENT')
    })
  }

  it('gives the same events for a QEMU stream in random pieces', () => {
    const bytes = golden('precopy')
    const whole = decode(main, bytes)
    const cuts = fc.uniqueArray(fc.nat(bytes.length), { maxLength: 40 })
    fc.assert(
      fc.property(cuts, (places) => {
        deepStrictEqual(
          decode(
            main,
            bytes,
            places.sort((a, b) => a - b),
          ),
          whole,
        )
      }),
      { numRuns: 15 },
    )
  })
})

describe('random valid streams', () => {
  it('give the same result in a second, simple decoder, in any split', () => {
    const pieces = fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { maxLength: 6 })
    fc.assert(
      fc.property(anyStream, pieces, ({ bytes, pageSizes }, shares) => {
        const expected = decodeNaively(bytes, pageSizes)
        const cuts = shares.map((share) => Math.floor(share * bytes.length)).sort((a, b) => a - b)
        deepStrictEqual(decode(main, bytes), expected)
        deepStrictEqual(decode(main, bytes, cuts), expected)
      }),
      { numRuns: 150 },
    )
  })

  it('give the same result if a bulk hook takes the records', () => {
    fc.assert(
      fc.property(anyStream, fc.nat(3), fc.nat(), ({ bytes, pageSizes }, budget, seed) => {
        const make = (events: Event[]) =>
          new stream.StreamDecoder(withBulkHook(recordStream(events), budget))
        const expected = decodeNaively(bytes, pageSizes)
        deepStrictEqual(decode(make, bytes, [seed % bytes.length]), expected)
      }),
      { numRuns: 100 },
    )
  })
})

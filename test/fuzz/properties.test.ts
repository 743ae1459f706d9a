/** The targets of the fuzzer, with inputs of fast-check and with the kept ones. */
import assert from 'node:assert/strict'
import fc from 'fast-check'
import * as stream from '../../src/stream/index.js'
import { readCorpus } from './corpus.js'
import { mutate } from './mutate.js'
import { programOf } from './program.js'
import { Random } from './random.js'
import {
  ACTION_COUNT,
  Do,
  destinationGoneEarly,
  destinationMarkedEarly,
  destinationSeeds,
  runDestination,
} from './targets/destination.js'
import { targets } from './targets/index.js'
import { WORD_COUNT, runSource } from './targets/source.js'

const RUNS = 200

/** A step of a program; small numbers, which have a meaning, are more frequent. */
function steps(count: number): fc.Arbitrary<[number, number, number, number]> {
  const number = fc.oneof({ weight: 3, arbitrary: fc.nat(8) }, fc.nat(255))
  return fc.tuple(fc.nat(count - 1), number, number, number)
}

/** A good program with steps inserted, removed and changed, at any place. */
function changedPrograms(seeds: readonly Uint8Array[], count: number): fc.Arbitrary<Uint8Array> {
  const change = fc.record({
    at: fc.nat(20),
    remove: fc.nat(2),
    insert: fc.array(steps(count), { maxLength: 3 }),
  })
  return fc
    .tuple(fc.constantFrom(...seeds), fc.array(change, { minLength: 1, maxLength: 3 }))
    .map(([seed, changes]) => {
      const program: number[] = [...seed]
      for (const { at, remove, insert } of changes) {
        const place = 4 * Math.min(1 + at, program.length / 4)
        program.splice(place, 4 * remove, ...insert.flat())
      }
      return Uint8Array.from(program)
    })
}

describe('a destination', () => {
  const setting = fc.constantFrom(0, 1, 3, 5, 7, 9, 11, 13)

  it('ends in a defined state, and writes nothing outside its RAM blocks, for any input', () => {
    const program = fc
      .tuple(setting, fc.array(steps(ACTION_COUNT), { maxLength: 25 }))
      .map(([how, list]) => programOf([[how], [Do.prologue], ...list]))
    fc.assert(
      fc.property(program, (input) => void runDestination(input)),
      { numRuns: RUNS },
    )
  })

  it('does not wait for pages after both channels have ended', () => {
    const outcome = runDestination(destinationMarkedEarly)
    assert.match(outcome, /postcopy-active postcopy-paused ERR_PEER_INCOMPLETE$/)
  })

  it('does not wait for pages if the preempt channel closed before it was read', () => {
    const outcome = runDestination(destinationGoneEarly)
    assert.match(outcome, /postcopy-paused ERR_CONNECTION_CLOSED$/)
  })

  it('does so also for a valid stream that is changed in a few places', () => {
    const program = changedPrograms(destinationSeeds, ACTION_COUNT)
    fc.assert(
      fc.property(program, (input) => void runDestination(input)),
      { numRuns: RUNS },
    )
  })
})

describe('a source', () => {
  it('sends each page once, for any page requests', () => {
    const program = fc
      .tuple(fc.nat(3), fc.array(steps(WORD_COUNT), { maxLength: 25 }))
      .map(([how, list]) => programOf([[how], ...list]))
    fc.assert(
      fc.property(program, (input) => void runSource(input)),
      { numRuns: RUNS },
    )
  })
})

describe('every decoder of untrusted bytes', () => {
  it('takes a page byte by byte without copying the received part each time', async () => {
    const { preempt, page } = { preempt: targets['preempt-channel'], page: new Uint8Array(4096) }
    const record = stream.encode((out) => stream.encodeRamPage(out, 'rom', 0, page))
    // The first byte is the size of the pieces.
    assert.equal(await preempt?.run(Uint8Array.of(0, ...record)), 'ended')
  })

  for (const [name, target] of Object.entries(targets)) {
    it(`accepts or rejects mutated inputs within bounded memory: ${name}`, async () => {
      const { seeds, tokens = [], maxBytes } = target
      const material = { corpus: [...seeds, ...readCorpus(name)], tokens, maxBytes }
      const input = fc.integer({ min: 1 }).map((seed) => mutate(new Random(seed), material))
      await fc.assert(
        fc.asyncProperty(input, async (bytes) => {
          await target.run(bytes)
        }),
        { numRuns: RUNS },
      )
    })

    it(`handles every input that the fuzzer has kept: ${name}`, async () => {
      for (const input of readCorpus(name)) await target.run(input)
    })
  }
})

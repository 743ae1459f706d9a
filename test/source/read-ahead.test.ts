import assert from 'node:assert/strict'
import fc from 'fast-check'
import { ReadAhead } from '../../src/source/read-ahead.js'

const MOST = 256

/** Requests pages in this order, except the guessed ones. @returns the number of requests */
function ask(readAhead: ReadAhead, pages: readonly number[], most = MOST) {
  const sent = new Set<number>()
  let requests = 0
  let unasked = 0
  for (const page of pages) {
    if (sent.has(page)) continue
    requests += 1
    sent.add(page)
    const guess = readAhead.guess(page, most)
    if (guess === undefined) continue
    for (let step = 0; step < guess.count; step += 1) sent.add(guess.first + step * guess.stride)
    unasked += guess.count
  }
  return { requests, unasked }
}

const upTo = (count: number, page: (index: number) => number) =>
  Array.from({ length: count }, (_, i) => page(i))

describe('ReadAhead', () => {
  it('detects a sweep at its third request, and then needs one request for two hundred pages', () => {
    const { requests } = ask(
      new ReadAhead(),
      upTo(100_000, (i) => i),
    )
    assert(requests < 100_000 / 200, `${requests} requests`)
  })

  for (const [what, page] of [
    ['backward', (i: number) => 100_000 - i],
    ['every seventh page', (i: number) => i * 7],
    ['every seventh page backward', (i: number) => 100_000 - i * 7],
  ] as const) {
    it(`detects a sweep ${what}`, () => {
      const { requests } = ask(new ReadAhead(), upTo(10_000, page))
      assert(requests < 100, `${requests} requests`)
    })
  }

  it('distinguishes eight interleaved sweeps', () => {
    const pages = upTo(80_000, (i) => (i % 8) * 1_000_000 + Math.floor(i / 8))
    const { requests } = ask(new ReadAhead(), pages)
    assert(requests < 80_000 / 100, `${requests} requests`)
  })

  it('sends almost nothing ahead for random requests', () => {
    const pages = fc
      .sample(
        fc.shuffledSubarray(
          upTo(50_000, (i) => i),
          { minLength: 50_000 },
        ),
        { numRuns: 1, seed: 7 },
      )
      .flat()
    const { unasked } = ask(new ReadAhead(), pages)
    assert(unasked < 500, `${unasked} pages unasked`)
  })

  it('doubles the pages sent ahead, up to the limit, and starts small again', () => {
    const readAhead = new ReadAhead()
    assert.equal(readAhead.guess(0, 32), undefined)
    assert.equal(readAhead.guess(1, 32), undefined)
    assert.deepEqual(readAhead.guess(2, 32), { first: 3, stride: 1, count: 8 })
    assert.deepEqual(readAhead.guess(11, 32), { first: 12, stride: 1, count: 16 })
    assert.deepEqual(readAhead.guess(28, 32), { first: 29, stride: 1, count: 32 })
    assert.deepEqual(readAhead.guess(61, 32), { first: 62, stride: 1, count: 32 })
    // The pattern changed: the last guess was wasted, and no further one.
    assert.equal(readAhead.guess(5000, 32), undefined)
    assert.equal(readAhead.guess(5001, 32), undefined)
    assert.deepEqual(readAhead.guess(5002, 32), { first: 5003, stride: 1, count: 8 })
  })

  it('continues after the pages sent ahead if they are requested while in flight', () => {
    const readAhead = new ReadAhead()
    for (const page of [0, 1]) readAhead.guess(page, MOST)
    assert.deepEqual(readAhead.guess(2, MOST), { first: 3, stride: 1, count: 8 })
    assert.deepEqual(readAhead.guess(6, MOST), { first: 11, stride: 1, count: 16 })
  })

  it('never sends more ahead than the limit', () => {
    fc.assert(
      fc.property(
        fc.array(fc.nat(200), { maxLength: 300 }),
        fc.integer({ min: 1, max: 64 }),
        (pages, most) => {
          const readAhead = new ReadAhead()
          for (const page of pages) {
            const guess = readAhead.guess(page, most)
            if (guess === undefined) continue
            assert(guess.count >= 1 && guess.count <= most)
            assert(guess.stride !== 0 && Math.abs(guess.stride) <= 64)
          }
        },
      ),
    )
  })
})

import assert from 'node:assert/strict'
import type { Benchmark, Comparison, Outcome } from '../../src/bench/benchmark.js'
import { picturesOf } from '../../src/bench/draw.js'
import { benchPage } from '../../src/bench/page.js'
import { ratios, spread } from '../../src/bench/statistics.js'
import { summarize, tableText } from '../../src/bench/table.js'
import { faultQuantilesUs } from '../../src/bench/touch-watch.js'
import { TouchHistogram } from '../../src/guest/index.js'

const comparison: Comparison = {
  what: '2 GiB, no zero pages',
  figure: 'push',
  unit: 'GB/s',
  ours: [2, 3, 1],
  rival: { name: 'C', values: [4, 4, 4] },
  target: { of: 'ratio', sense: 'at least', limit: 0.5 },
}

describe('the result of a benchmark', () => {
  it('is the median with minimum and maximum, and the median of the ratios of each round', () => {
    assert.deepEqual(spread([3, 1, 2, 10]), { min: 1, median: 2.5, max: 10 })
    // In the second round a busy host slowed both of them down.
    assert.deepEqual(ratios([2, 1, 2], [4, 2, 4]), [0.5, 0.5, 0.5])
    assert.equal(summarize(comparison).ours, '2.00 (1.00 - 3.00) GB/s')
    assert.equal(summarize(comparison).rival, 'C: 4.00 (4.00 - 4.00) GB/s')
    assert.equal(summarize(comparison).ratio, 0.5)
  })

  it('states whether a target for the ratio or the value is met, if there is a target', () => {
    const met = (target: Comparison['target']): boolean | undefined =>
      summarize({ ...comparison, ...(target === undefined ? {} : { target }) }).met
    assert.equal(met({ of: 'ratio', sense: 'at least', limit: 0.5 }), true)
    assert.equal(met({ of: 'ratio', sense: 'at least', limit: 0.51 }), false)
    assert.equal(met({ of: 'ratio', sense: 'at most', limit: 0.49 }), false)
    assert.equal(met({ of: 'value', sense: 'at most', limit: 2 }), true)
    assert.equal(met({ of: 'value', sense: 'at most', limit: 1.9 }), false)
    const { what, figure, unit, ours } = comparison
    assert.equal(summarize({ what, figure, unit, ours }).met, undefined)
    assert.match(
      tableText([{ ...comparison, target: { of: 'ratio', sense: 'at least', limit: 1 } }]),
      /NO/,
    )
  })

  it('becomes a self-contained page with the table, a bar for each ratio and the curves', () => {
    const benchmark: Benchmark = {
      name: 'push',
      question: 'How <fast>?',
      run: () => Promise.reject(new Error('not here')),
    }
    const curves = [{ name: 'postcopy', points: [[0, 1] as const, [50, 20] as const] }]
    const outcome: Outcome = {
      comparisons: [comparison],
      pictures: [{ title: 'Faults', xLabel: '%', yLabel: 'us', yLog: true, curves }],
    }
    const page = benchPage('2 CPUs', new Map([[benchmark, outcome]]))
    assert.match(page, /How &lt;fast&gt;\?/)
    assert.equal(page.match(/<svg/g)?.length, 2)
    assert.doesNotMatch(page, /<script|https?:\/\/(?!www\.w3\.org)/)
    assert.match(picturesOf(outcome)[0] ?? '', /rival/)
  })

  it('counts touches that take longer than those of present pages as faults', () => {
    const touches = new TouchHistogram()
    const bucketOf = (ns: number): number =>
      touches.counts.findIndex((_, bucket) => TouchHistogram.bucketStartNs(bucket + 1) > ns)
    touches.counts[bucketOf(300)] = 1_000_000
    touches.counts[bucketOf(70_000)] = 900
    touches.counts[bucketOf(900_000)] = 100
    const quantiles = faultQuantilesUs(touches)
    const near = (value: number | undefined, us: number): void =>
      assert(value !== undefined && value >= us && value < us * 1.07, `${value} for ${us}`)
    near(quantiles[0], 70)
    near(quantiles[899], 70)
    near(quantiles[900], 900)
    near(quantiles.at(-1), 900)
  })
})

/** How long one vCPU waits for one missing page, without a push. */
import { type Benchmark, type Comparison, MIB } from './benchmark.js'
import { type FloorFault, floorFault } from './floor.js'
import { Pair } from './pair.js'
import { at, curve } from './statistics.js'

/** In the first second V8 compiles the code that has just started, on the same processors. */
const WARM_MS = 1000

/** A chase visits every page once, one at a time, in an order that cannot be predicted. */
const workload = 'chase:writes=0'

export const faultBenchmark: Benchmark = {
  name: 'fault',
  question: 'How long does a vCPU wait for a missing page while nothing is pushed?',
  run: async ({ rounds, quick, progress }) => {
    const mib = quick ? 32 : 128
    const ours: (readonly number[])[] = []
    const cold: (readonly number[])[] = []
    const floor: FloorFault[] = []
    await using pair = new Pair()
    for (let round = 0; round <= rounds; round += 1) {
      const { destination } = await pair.round({
        ramBytes: mib * MIB,
        workload,
        postcopyAfterMs: 0,
        // The chase's coprime steps are a pattern that read-ahead could detect.
        parameters: { 'x-read-ahead-pages': 0 },
        pushAfterMs: quick ? 2000 : 4000,
        observeMs: quick ? 2000 : 4000,
        warmMs: WARM_MS,
      })
      progress()
      const beside = await floorFault({ count: (mib * MIB) / 4096, mib })
      progress()
      if (round === 0) continue
      ours.push(destination.faultQuantilesUs)
      cold.push(destination.coldQuantilesUs)
      floor.push(beside)
    }
    const limits = [
      ['p50', 0.5, 1.1, ({ p50Us }) => p50Us],
      ['p99', 0.99, 1.5, ({ p99Us }) => p99Us],
      ['p99.9', 0.999, 3, ({ p999Us }) => p999Us],
    ] as const satisfies readonly (readonly [
      string,
      number,
      number,
      (floor: FloorFault) => number,
    ])[]
    const what = 'one vCPU, random order, nothing pushed'
    const first = limits.map(([name, quantile, , pick]): Comparison => ({
      what: `${what}: the first second`,
      figure: `fault ${name}`,
      unit: 'us',
      ours: cold.map((each) => at(each, quantile)),
      rival: { name: 'C', values: floor.map(pick) },
    }))
    const later = limits.map(([name, quantile, limit, pick]): Comparison => ({
      what,
      figure: `fault ${name}`,
      unit: 'us',
      ours: ours.map((each) => at(each, quantile)),
      rival: { name: 'C', values: floor.map(pick) },
      target: { of: 'ratio', sense: 'at most', limit },
    }))
    return {
      comparisons: [...later, ...first],
      pictures: [
        {
          title: 'How long a fault takes: nothing pushed, median of rounds',
          xLabel: '% of faults',
          yLabel: 'us',
          yLog: true,
          curves: [
            { name: 'postcopy', points: curve(ours) },
            { name: 'postcopy, the first second', points: curve(cold) },
            { name: 'C', points: curve(floor.map(({ quantilesUs }) => quantilesUs.slice(1))) },
          ],
        },
      ],
    }
  },
}

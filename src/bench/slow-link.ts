/** How long a fault takes on a slow link that the push saturates. Needs root and iproute2. */
import { TwoHosts } from '../testing/index.js'
import { type Benchmark, type Comparison, MIB, type Picture, fewer } from './benchmark.js'
import { Pair, pushRate } from './pair.js'
import { at, curve } from './statistics.js'

/** At this rate, faults do not wait for each other. */
const workload = 'chase:writes=0,rate=200'

export const slowLinkBenchmark: Benchmark = {
  name: 'slow-link',
  question: 'How long does a fault take on a slow link while the push fills it?',
  run: async ({ rounds, quick, progress }) => {
    if (process.getuid?.() !== 0) {
      return { comparisons: [], skipped: ['network namespaces with a slow link need root'] }
    }
    const cases = quick
      ? [{ mbit: 1000, mib: 128 }]
      : [
          { mbit: 1000, mib: 256 },
          { mbit: 100, mib: 32 },
        ]
    const comparisons: Comparison[] = []
    const pictures: Picture[] = []
    for (const { mbit, mib } of cases) {
      using hosts = TwoHosts.create()
      for (const host of [hosts.a, hosts.b]) host.limitBandwidth(mbit * 1e6)
      await using pair = new Pair(
        (...args) => hosts.a.spawn(...args),
        (...args) => hosts.b.spawn(...args),
      )
      const loaded: (readonly number[])[] = []
      const unloaded: (readonly number[])[] = []
      const rates: number[] = []
      for (let round = 0; round <= (mbit === 1000 ? rounds : fewer(rounds)); round += 1) {
        const common = {
          ramBytes: mib * MIB,
          workload,
          postcopyAfterMs: 0,
          host: hosts.b.address,
        }
        const alone = { pushAfterMs: 1000, observeMs: 1000 }
        const quiet = await pair.round({ ...common, ...alone })
        const pushed = await pair.round(common)
        progress()
        if (round === 0) continue
        unloaded.push(quiet.destination.faultQuantilesUs)
        loaded.push(pushed.destination.faultQuantilesUs)
        rates.push(pushRate(pushed) * 1000)
      }
      const what = `${mbit} Mbit/s, the push fills it`
      comparisons.push({
        what,
        figure: 'push, faults included',
        unit: 'MB/s',
        ours: rates,
        rival: { name: 'the link, with all headers', values: rates.map(() => mbit / 8) },
      })
      for (const [name, quantile] of [
        ['p50', 0.5],
        ['p99', 0.99],
      ] as const) {
        comparisons.push({
          what,
          figure: `fault ${name}`,
          unit: 'us',
          ours: loaded.map((each) => at(each, quantile)),
          rival: { name: 'nothing pushed', values: unloaded.map((each) => at(each, quantile)) },
          ...(quantile === 0.5 && mbit === 1000
            ? { target: { of: 'ratio', sense: 'at most', limit: 2 } as const }
            : {}),
        })
      }
      pictures.push({
        title: `How long a fault takes at ${mbit} Mbit/s`,
        xLabel: '% of faults',
        yLabel: 'us',
        yLog: true,
        curves: [
          { name: 'the push fills the link', points: curve(loaded) },
          { name: 'nothing pushed', points: curve(unloaded) },
        ],
      })
    }
    return { comparisons, pictures }
  },
}

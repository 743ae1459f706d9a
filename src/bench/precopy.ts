/** How precopy copes with a guest that writes, and what dirty tracking costs the guest. */
import { type Benchmark, type Comparison, MIB, fewer } from './benchmark.js'
import { Pair } from './pair.js'

const PAGE_MB = 4096 / 1e6

export const precopyBenchmark: Benchmark = {
  name: 'precopy',
  question:
    'How fast is precopy while the guest writes, how many rounds, and what does that cost the guest?',
  run: async ({ rounds, quick, progress }) => {
    const ramBytes = (quick ? 256 : 512) * MIB
    const comparisons: Comparison[] = []
    // Pages per second. The last rate is as fast as one vCPU can write, faster than any link.
    for (const rate of quick ? [0, Infinity] : [0, 100_000, Infinity]) {
      const precopied: number[] = []
      const passes: number[] = []
      const watched: number[] = []
      const alone: number[] = []
      await using pair = new Pair()
      const limit = rate === Infinity ? '' : `,rate=${rate}`
      for (let round = 0; round <= fewer(rounds); round += 1) {
        const { source } = await pair.round({
          ramBytes,
          workload: rate === 0 ? 'idle' : `random:writes=100${limit}`,
          postcopyAfterMs: 1000,
          warmUpMs: rate === 0 ? 0 : 200,
          parameters: { 'downtime-limit': 5 },
        })
        progress()
        if (round === 0) continue
        precopied.push(source.precopyBytes / source.precopyMs / 1e6)
        passes.push(source.rounds)
        watched.push(source.touchesPerSecond.precopy * PAGE_MB)
        alone.push(source.touchesPerSecond.before * PAGE_MB)
      }
      const what =
        rate === 0
          ? 'idle'
          : rate === Infinity
            ? 'writes as fast as it can'
            : `writes ${(rate * PAGE_MB).toFixed(0)} MB/s`
      comparisons.push(
        { what, figure: 'precopy', unit: 'GB/s', ours: precopied },
        { what, figure: 'rounds over the dirty log', unit: '', ours: passes },
      )
      if (rate === 0) continue
      comparisons.push({
        what,
        figure: 'guest writes during precopy',
        unit: 'MB/s',
        ours: watched,
        rival: { name: 'before the migration', values: alone },
      })
    }
    return { comparisons }
  },
}

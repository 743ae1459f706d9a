/** What read-ahead gains, and what it costs where it cannot help. */
import { type Benchmark, type Comparison, MIB, fewer } from './benchmark.js'
import { type Round, Pair } from './pair.js'

const patterns = [
  { pattern: 'sweep', how: 'in order' },
  { pattern: 'random', how: 'at random' },
] as const

export const readAheadBenchmark: Benchmark = {
  name: 'read-ahead',
  question:
    'What does sending ahead of requests gain, and what does it cost for random accesses? Nothing else is pushed.',
  run: async ({ rounds, quick, progress }) => {
    const hotMib = quick ? 8 : 24
    const sweepTouches = (hotMib * MIB) / 4096
    const comparisons: Comparison[] = []
    for (const { pattern, how } of patterns) {
      const ahead: Round[] = []
      const alone: Round[] = []
      // Each round has processes of its own, so that all rounds start equally cold.
      for (let round = 0; round < fewer(rounds); round += 1) {
        for (const [pages, results] of [
          [256, ahead],
          [0, alone],
        ] as const) {
          await using pair = new Pair()
          const result = await pair.round({
            ramBytes: 2 * hotMib * MIB,
            workload: `${pattern}:hot=${hotMib}M,writes=0`,
            postcopyAfterMs: 0,
            parameters: { 'x-read-ahead-pages': pages },
            // Long enough to request all of the hot pages, one by one.
            pushAfterMs: sweepTouches / 2,
            sweepTouches,
          })
          progress()
          results.push(result)
        }
      }
      const what = `a vCPU touches ${hotMib} MiB ${how}`
      const requests = ({ destination }: Round): number => destination.requestedPages
      const sweepMs = ({ destination }: Round): number => destination.sweepMs
      const rival = { name: 'without it' }
      comparisons.push(
        {
          what,
          figure: 'page requests',
          unit: '',
          ours: ahead.map(requests),
          rival: { ...rival, values: alone.map(requests) },
          ...(pattern === 'sweep'
            ? { target: { of: 'ratio', sense: 'at most', limit: 1 / 20 } as const }
            : {}),
        },
        {
          what,
          figure: 'as many touches as pages',
          unit: 'ms',
          ours: ahead.map(sweepMs),
          rival: { ...rival, values: alone.map(sweepMs) },
          ...(pattern === 'random'
            ? { target: { of: 'ratio', sense: 'at most', limit: 1.05 } as const }
            : {}),
        },
      )
    }
    return { comparisons }
  },
}

/** How long the guest is stopped at the switch. */
import { formatByteSize } from '../units.js'
import { type Benchmark, type Comparison, GIB, MIB, type RunOptions, fewer } from './benchmark.js'
import type { IdleMigrations } from './idle-rounds.js'
import { Pair } from './pair.js'

const limits = new Map([
  [256 * MIB, 5],
  [8 * GIB, 8],
])

export function switchBenchmark(idle: IdleMigrations): Benchmark {
  return {
    name: 'switch',
    question: 'How long is the guest stopped at the switch?',
    run: async (options) => {
      const sizes = options.quick ? [256 * MIB, 512 * MIB] : [256 * MIB, 2 * GIB, 8 * GIB]
      const comparisons: Comparison[] = []
      for (const ramBytes of sizes) {
        const withFloor = ramBytes >= (options.quick ? 512 * MIB : 2 * GIB)
        const { ours } = await idle.rounds({ ramBytes, fillPercent: 100, withFloor }, options)
        const limit = limits.get(ramBytes)
        comparisons.push({
          ...downtime(`${formatByteSize(ramBytes)}, idle`),
          ours: ours.map(({ source }) => source.downtimeMs),
          ...(limit === undefined ? {} : { target: { of: 'value', sense: 'at most', limit } }),
        })
      }
      for (const dirtyPercent of options.quick ? [50] : [1, 10, 50]) {
        comparisons.push(await dirtyGuest(GIB / 2, dirtyPercent, options))
      }
      return { comparisons }
    },
  }
}

const downtime = (what: string) => ({ what, figure: 'downtime', unit: 'ms' })

/** Switches after a whole round of precopy, when this percentage of RAM is dirty again. */
async function dirtyGuest(
  ramBytes: number,
  dirtyPercent: number,
  { rounds: asked, progress }: RunOptions,
): Promise<Comparison> {
  const rounds = fewer(asked)
  const hotMib = Math.floor((ramBytes * dirtyPercent) / 100 / MIB)
  const ours: number[] = []
  await using pair = new Pair()
  for (let round = 0; round <= rounds; round += 1) {
    const { source } = await pair.round({
      ramBytes,
      workload: `sweep:hot=${hotMib}M,writes=100`,
      postcopyAfterMs: undefined,
      // With this downtime limit, precopy cannot complete before the switch.
      parameters: { 'x-postcopy-after-rounds': 1, 'downtime-limit': 1 },
    })
    progress()
    if (round > 0) ours.push(source.downtimeMs)
  }
  return {
    ...downtime(`${formatByteSize(ramBytes)}, a vCPU writes ${dirtyPercent} % of it repeatedly`),
    ours,
  }
}

/** What a migration costs its host besides the guest's own memory, and how that grows. */
import { formatByteSize } from '../units.js'
import { type Benchmark, type Comparison, GIB, MIB } from './benchmark.js'
import type { IdleMigrations } from './idle-rounds.js'

const BASE_BYTES = 90 * MIB
const SHARE_OF_RAM = 0.0005

export function scaleBenchmark(idle: IdleMigrations): Benchmark {
  return {
    name: 'scale',
    question:
      'What does a migration cost in memory and CPU, and how does that grow with guest RAM?',
    run: async (options) => {
      const sizes = options.quick ? [256 * MIB, 512 * MIB] : [256 * MIB, 2 * GIB, 8 * GIB]
      const comparisons: Comparison[] = []
      // Not the smallest size: there, starting the threads costs more than the pages do.
      const [, referenceBytes = 0] = sizes
      let reference: readonly number[] | undefined
      for (const ramBytes of sizes) {
        const withFloor = ramBytes >= (options.quick ? 512 * MIB : 2 * GIB)
        const { ours } = await idle.rounds({ ramBytes, fillPercent: 100, withFloor }, options)
        const what = `${formatByteSize(ramBytes)}, idle`
        const limit = (BASE_BYTES + SHARE_OF_RAM * ramBytes) / MIB
        const perGib = (seconds: number): number => seconds / (ramBytes / GIB)
        for (const end of ['source', 'destination'] as const) {
          comparisons.push({
            what,
            figure: `${end}: memory beyond RAM`,
            unit: 'MiB',
            ours: ours.map((round) => round[end].beyondRamBytes / MIB),
            target: { of: 'value', sense: 'at most', limit },
          })
        }
        const cpu = ours.map(({ source, destination }) =>
          perGib(source.cpuSeconds + destination.cpuSeconds),
        )
        comparisons.push({
          what,
          figure: 'CPU seconds per GiB, both ends',
          unit: 's',
          ours: cpu,
          ...(reference === undefined
            ? {}
            : {
                rival: { name: formatByteSize(referenceBytes), values: reference },
                target: { of: 'ratio', sense: 'at most', limit: 1.15 } as const,
              }),
        })
        if (ramBytes === referenceBytes) reference = cpu
      }
      return { comparisons }
    },
  }
}

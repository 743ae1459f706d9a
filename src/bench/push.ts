/**
 * How fast the memory of an idle guest is pushed, compared with a C program that does only that.
 */
import { formatByteSize } from '../units.js'
import { type Benchmark, type Comparison, GIB, MIB } from './benchmark.js'
import { pushRate } from './pair.js'
import type { IdleMigrations } from './idle-rounds.js'

export function pushBenchmark(idle: IdleMigrations): Benchmark {
  return {
    name: 'push',
    question: 'How fast is the memory of an idle guest pushed, compared with plain C?',
    run: async (options) => {
      const cases = options.quick
        ? [{ ramBytes: 512 * MIB, fillPercent: 100 }]
        : [
            { ramBytes: 2 * GIB, fillPercent: 100 },
            { ramBytes: 2 * GIB, fillPercent: 50 },
            { ramBytes: 8 * GIB, fillPercent: 100 },
          ]
      const comparisons: Comparison[] = []
      for (const { ramBytes, fillPercent } of cases) {
        const { ours, floor } = await idle.rounds(
          { ramBytes, fillPercent, withFloor: true },
          options,
        )
        const content =
          fillPercent === 100 ? 'no zero pages' : `${100 - fillPercent} % of pages zero`
        const common = {
          what: `${formatByteSize(ramBytes)}, ${content}`,
          figure: 'push',
          unit: 'GB/s',
          ours: ours.map(pushRate),
        }
        comparisons.push(
          {
            ...common,
            rival: { name: 'C, a record at a time', values: floor.records },
            target: { of: 'ratio', sense: 'at least', limit: 1 },
          },
          {
            ...common,
            rival: { name: 'C, runs', values: floor.runs },
            target: { of: 'ratio', sense: 'at least', limit: 0.8 },
          },
        )
      }
      return { comparisons }
    },
  }
}

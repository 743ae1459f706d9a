/** Whether the push continues while eight vCPUs fault without pause. */
import { type Benchmark, MIB } from './benchmark.js'
import { type Round, Pair, pushRate } from './pair.js'
import { at } from './statistics.js'

export const stormBenchmark: Benchmark = {
  name: 'storm',
  question: 'How fast is the push while eight vCPUs fault continuously, and how long do they wait?',
  run: async ({ rounds, quick, progress }) => {
    const ramBytes = (quick ? 256 : 1024) * MIB
    const storm: number[] = []
    const idle: number[] = []
    const waits: number[] = []
    const placed: number[] = []
    const busy: { readonly storm: number[]; readonly idle: number[] } = { storm: [], idle: [] }
    await using stormy = new Pair()
    await using quiet = new Pair()
    for (let round = 0; round <= rounds; round += 1) {
      const common = { ramBytes, vcpus: 8, postcopyAfterMs: 0 }
      const { source, destination } = await stormy.round({ ...common, workload: 'chase:writes=0' })
      const calm = await quiet.round({ ...common, workload: 'idle' })
      progress()
      if (round === 0) continue
      storm.push(pushRate({ source, destination }))
      idle.push(pushRate(calm))
      waits.push(at(destination.faultQuantilesUs, 0.99) / 1000)
      placed.push(destination.placedP99Us / 1000)
      busy.storm.push(processors({ source, destination }))
      busy.idle.push(processors(calm))
    }
    const what = `${ramBytes / MIB} MiB, 8 vCPUs that touch missing pages continuously`
    return {
      comparisons: [
        {
          what,
          figure: 'push',
          unit: 'GB/s',
          ours: storm,
          rival: { name: 'the same guest, idle', values: idle },
          target: { of: 'ratio', sense: 'at least', limit: 0.7 },
        },
        {
          what,
          figure: 'fault p99',
          unit: 'ms',
          ours: waits,
          target: { of: 'value', sense: 'at most', limit: 5 },
        },
        { what, figure: 'fault p99, until the page is placed', unit: 'ms', ours: placed },
        {
          what,
          figure: 'processors busy',
          unit: '',
          ours: busy.storm,
          rival: { name: 'the same guest, idle', values: busy.idle },
        },
      ],
    }
  },
}

/** Processors in use on average, of both ends and their guests. */
function processors({ source, destination }: Round): number {
  return source.processors + destination.processors
}

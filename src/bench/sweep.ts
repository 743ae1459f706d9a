/** A guest that sweeps its memory during a migration, compared with the same guest under QEMU. */
import {
  type Benchmark,
  type Comparison,
  type Curve,
  MIB,
  type Picture,
  type RunOptions,
  fewer,
} from './benchmark.js'
import { type Round, Pair } from './pair.js'
import { type QemuSweepResult, qemuSweep } from './qemu-sweep.js'
import { NO_QEMU, hasQemu } from './qemu-vm.js'

const patterns = ['sweep', 'random', 'zipf'] as const
type Pattern = (typeof patterns)[number]

interface Rounds {
  readonly ours: Round[]
  readonly plain: QemuSweepResult[]
  readonly preempt: QemuSweepResult[]
}

export const sweepBenchmark: Benchmark = {
  name: 'sweep',
  question: 'How much does a migration slow down a guest that sweeps its memory?',
  run: async (options) => {
    const qemu = hasQemu()
    const comparisons: Comparison[] = []
    const pictures: Picture[] = []
    for (const pattern of options.quick ? (['sweep'] as const) : patterns) {
      // One pattern suffices: under TCG each round takes ten seconds.
      const withQemu = qemu && pattern === 'sweep'
      const rounds = await measure(pattern, withQemu, options)
      comparisons.push(...compare(describe(pattern, options), rounds, touchesOf(options)))
      pictures.push({
        title: `Touches since the guest runs at the destination: ${pattern}, last round`,
        xLabel: 'ms since the switch',
        yLabel: 'share of a sweep',
        curves: progressOf(rounds, touchesOf(options)),
      })
    }
    return {
      comparisons,
      pictures,
      skipped: qemu ? [] : [NO_QEMU],
    }
  },
}

const sizesOf = ({ quick }: RunOptions) =>
  quick ? { ramMib: 256, hotMib: 150 } : { ramMib: 1024, hotMib: 600 }

const touchesOf = (options: RunOptions): number => (sizesOf(options).hotMib * MIB) / 4096

function describe(pattern: Pattern, options: RunOptions): string {
  const { ramMib, hotMib } = sizesOf(options)
  const how = { sweep: 'in order', random: 'at random', zipf: 'by popularity' }[pattern]
  return `${ramMib} MiB, a vCPU touches ${hotMib} MiB ${how}`
}

async function measure(pattern: Pattern, qemu: boolean, options: RunOptions): Promise<Rounds> {
  const { ramMib, hotMib } = sizesOf(options)
  const rounds: Rounds = { ours: [], plain: [], preempt: [] }
  const count = qemu ? options.rounds : fewer(options.rounds)
  for (let round = 0; round <= count; round += 1) {
    await using pair = new Pair()
    const result = await pair.round({
      ramBytes: ramMib * MIB,
      workload: `${pattern}:hot=${hotMib}M,writes=50`,
      postcopyAfterMs: 0,
      warmUpMs: 500,
      sweepTouches: touchesOf(options),
    })
    options.progress()
    if (round === 0) continue
    rounds.ours.push(result)
    if (!qemu) continue
    for (const preempt of [false, true]) {
      const theirs = await qemuSweep({ preempt, pattern: 'sweep', ramMib, hotMib })
      rounds[preempt ? 'preempt' : 'plain'].push(theirs)
      options.progress()
    }
  }
  return rounds
}

const QEMU_PLAIN = 'QEMU, plain'
const QEMU_PREEMPT = 'QEMU, preempt'

function compare(
  what: string,
  { ours, plain, preempt }: Rounds,
  sweepTouches: number,
): Comparison[] {
  const comparisons: Comparison[] = []
  const compareOne = (
    figure: string,
    unit: string,
    own: (round: Round) => number,
    theirs: (round: QemuSweepResult) => number,
    limits: { readonly plain?: number; readonly preempt?: number } = {},
  ): void => {
    const common = { what, figure, unit, ours: ours.map(own) }
    if (preempt.length === 0) comparisons.push(common)
    for (const [name, rounds, limit] of [
      [QEMU_PREEMPT, preempt, limits.preempt],
      [QEMU_PLAIN, plain, limits.plain],
    ] as const) {
      if (rounds.length === 0) continue
      comparisons.push({
        ...common,
        rival: { name, values: rounds.map(theirs) },
        ...(limit === undefined
          ? {}
          : { target: { of: 'ratio', sense: 'at most', limit } as const }),
      })
    }
  }
  compareOne(
    'total time',
    'ms',
    ({ source }) => source.totalMs,
    ({ totalMs }) => totalMs,
    { preempt: 0.6, plain: 0.3 },
  )
  compareOne(
    'downtime',
    'ms',
    ({ source }) => source.downtimeMs,
    ({ downtimeMs }) => downtimeMs,
  )
  compareOne(
    'page requests',
    '',
    ({ destination }) => destination.requestedPages,
    ({ requests }) => requests,
  )
  compareOne(
    'blocktime',
    'ms',
    ({ destination }) => destination.blocktimeMs,
    ({ blocktimeMs }) => blocktimeMs,
    { preempt: 0.5 },
  )
  compareOne(
    'first sweep after the switch',
    'ms',
    ({ destination }) => destination.sweepMs,
    ({ firstSweepMs }) => firstSweepMs,
    { preempt: 0.5 },
  )
  compareOne(
    'the same, in sweeps of local memory',
    '',
    ({ source, destination }) =>
      (destination.sweepMs / 1000) * (source.touchesPerSecond.before / sweepTouches),
    ({ firstSweepMs, localSweepMs }) => firstSweepMs / localSweepMs,
  )
  return comparisons
}

/** The progress of the last round. */
function progressOf({ ours, plain, preempt }: Rounds, sweepTouches: number): Curve[] {
  const curves: Curve[] = []
  const own = ours.at(-1)?.destination.touched ?? []
  const first = own.findIndex(([, touches]) => touches >= sweepTouches)
  curves.push({
    name: 'postcopy',
    points: own
      .slice(0, first === -1 ? undefined : first + 1)
      .map(([ms, touches]) => [ms, touches / sweepTouches]),
  })
  for (const [name, rounds] of [
    [QEMU_PREEMPT, preempt],
    [QEMU_PLAIN, plain],
  ] as const) {
    const last = rounds.at(-1)
    if (last === undefined) continue
    curves.push({ name, points: last.progress.filter(([, share]) => share <= 1) })
  }
  return curves
}

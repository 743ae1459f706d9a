/**
 * `npm run bench [-- NAME ...] [-- --quick]`: what migrations cost on this machine, right now,
 * compared with rivals. Rivals take turns in one run; figures are medians of several rounds.
 */
import { mkdirSync } from 'node:fs'
import os from 'node:os'
import { join } from 'node:path'
import { Command, InvalidArgumentError } from 'commander'
import { endProcess, output, runCommand, writeReport } from '../cli/index.js'
import { checkWritable } from '../user-files.js'
import type { Benchmark, Outcome } from './benchmark.js'
import { faultBenchmark } from './fault.js'
import { IdleMigrations } from './idle-rounds.js'
import { precopyBenchmark } from './precopy.js'
import { pushBenchmark } from './push.js'
import { qemuBenchmark } from './qemu.js'
import { readAheadBenchmark } from './read-ahead.js'
import { scaleBenchmark } from './scale.js'
import { slowLinkBenchmark } from './slow-link.js'
import { sparseBenchmark } from './sparse.js'
import { stormBenchmark } from './storm.js'
import { sweepBenchmark } from './sweep.js'
import { switchBenchmark } from './switch.js'
import { tableText } from './table.js'

const ROUNDS = 3

const idle = new IdleMigrations()
const benchmarks: readonly Benchmark[] = [
  pushBenchmark(idle),
  switchBenchmark(idle),
  scaleBenchmark(idle),
  sparseBenchmark,
  faultBenchmark,
  sweepBenchmark,
  readAheadBenchmark,
  stormBenchmark,
  precopyBenchmark,
  slowLinkBenchmark,
  qemuBenchmark,
]
const names = benchmarks.map(({ name }) => name)

function benchmarkName(text: string, before: string[] = []): string[] {
  if (!names.includes(text)) throw new InvalidArgumentError(`One of ${names.join(', ')}.`)
  return [...before, text]
}

interface Options {
  quick?: true
  rounds?: number
  json?: true
  html?: string
  svg?: string
}

let status = 0
await new Command('bench')
  .description(
    'Measures migrations between two processes on this machine, and compares them with other programs.',
  )
  .argument('[names...]', `which benchmarks: ${names.join(', ')} (default: all)`, benchmarkName)
  .option(
    '--quick',
    'smaller guests, one round: a check that the benchmarks work, not a measurement',
  )
  .option('--rounds <count>', `measured rounds (default: ${ROUNDS})`, (text) => {
    const rounds = Number(text)
    if (!Number.isInteger(rounds) || rounds < 1) throw new InvalidArgumentError('At least 1.')
    return rounds
  })
  .option('--json', 'print every round as one JSON object')
  .option('--html <file>', 'write an HTML page with the table and plots')
  .option('--svg <folder>', 'write each plot to its own file')
  .action(async (chosen: string[] | undefined, options: Options) => {
    status = await runCommand(() => run(chosen, options))
  })
  .parseAsync()
await endProcess(status)

async function run(chosen: string[] | undefined, options: Options): Promise<number> {
  if (options.html !== undefined) checkWritable(options.html)
  if (options.svg !== undefined) makeWritableFolder(options.svg)
  const quick = options.quick === true
  const rounds = options.rounds ?? (quick ? 1 : ROUNDS)
  const outcomes = new Map<Benchmark, Outcome>()
  const host = `${os.cpus().length} CPUs, Linux ${os.release()}, Node ${process.version}`
  if (options.json !== true) {
    output.print(
      `${host}\nmedian (minimum - maximum) of ${rounds} rounds taken in turn; ratios are medians of each round's own\n`,
    )
  }
  for (const benchmark of benchmarks) {
    const { name, question } = benchmark
    if (chosen !== undefined && chosen.length > 0 && !chosen.includes(name)) continue
    const startedAt = performance.now()
    const progress = (): void => output.progress('.')
    const outcome = await benchmark.run({ rounds, quick, progress })
    outcomes.set(benchmark, outcome)
    output.progress(` ${((performance.now() - startedAt) / 1000).toFixed(0)} s\n`)
    if (options.json === true) continue
    output.print(`\n${name}: ${question}\n`)
    if (outcome.comparisons.length > 0) output.print(`${tableText(outcome.comparisons)}\n`)
    for (const reason of outcome.skipped ?? []) output.print(`not run: ${reason}\n`)
  }
  if (options.json === true) {
    const results = [...outcomes].map(([{ name }, outcome]) => ({ name, ...outcome }))
    output.json({ host, rounds, quick, results })
  }
  if (options.html !== undefined) {
    const { benchPage } = await import('./page.js')
    await writeReport(options.html, benchPage(host, outcomes))
  }
  if (options.svg !== undefined) {
    const { picturesOf } = await import('./draw.js')
    for (const [{ name }, outcome] of outcomes) {
      for (const [index, svg] of picturesOf(outcome).entries()) {
        await writeReport(join(options.svg, `${name}-${index}.svg`), svg)
      }
    }
  }
  return 0
}

function makeWritableFolder(folder: string): void {
  mkdirSync(folder, { recursive: true })
  checkWritable(join(folder, 'any.svg'))
}

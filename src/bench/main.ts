/**
 * `npm run bench [-- --quick] [-- NAME ...]`: what a migration costs on this machine, right now.
 * Rivals take turns in one run; medians of several rounds, with minimum and maximum.
 */
import os from 'node:os'
import Table from 'cli-table3'
import { Command } from 'commander'
import { TARGET_PAGE_SIZE, formatByteSize } from '../units.js'
import type { RoundOptions } from './end.js'
import { Pair, type Round } from './pair.js'
import { type Spread, spread } from './statistics.js'

const MIB = 2 ** 20
const GIB = 2 ** 30

interface Trial {
  readonly name: string
  readonly what: string
  readonly options: RoundOptions
}

const idle = { memory: 'anon', workload: 'idle', postcopyAfterMs: 0 } as const

/** Rows that share a name are rivals: they take turns. */
const trials: readonly Trial[] = [
  { name: 'push', what: '256 MiB, idle', options: { ...idle, ramBytes: 256 * MIB } },
  { name: 'push', what: '2 GiB, idle', options: { ...idle, ramBytes: 2 * GIB } },
  {
    name: 'push',
    what: '2 GiB, idle, memfd',
    options: { ...idle, memory: 'memfd', ramBytes: 2 * GIB },
  },
  {
    name: 'push',
    what: '2 GiB, idle, precopy only',
    options: { ...idle, ramBytes: 2 * GIB, postcopyAfterMs: undefined },
  },
  {
    name: 'sweep',
    what: '1 GiB, vCPU sweeps 600 MiB, half of it writes',
    options: { ...idle, ramBytes: GIB, workload: 'sweep:hot=600M,writes=50' },
  },
  {
    name: 'sweep',
    what: '1 GiB, vCPU touches 600 MiB at random',
    options: { ...idle, ramBytes: GIB, workload: 'random:hot=600M,writes=50' },
  },
]

async function runTrials(names: readonly string[], rounds: number): Promise<Map<Trial, Round[]>> {
  const chosen = trials.filter(({ name }) => names.length === 0 || names.includes(name))
  const results = new Map<Trial, Round[]>(chosen.map((trial) => [trial, []]))
  // The first round of each is not counted: code and memory are cold.
  for (let round = 0; round <= rounds; round += 1) {
    for (const [trial, done] of results) {
      const pair = new Pair()
      try {
        await pair.round(trial.options)
        const result = await pair.round(trial.options)
        if (round > 0) done.push(result)
      } finally {
        await pair.close()
      }
      process.stderr.write('.')
    }
  }
  process.stderr.write('\n')
  return results
}

function print(results: ReadonlyMap<Trial, readonly Round[]>): void {
  const table = new Table({
    style: { head: [], border: [] },
    head: [
      '',
      'guest',
      'GB/s',
      'downtime ms',
      'requests',
      'fault p50/p99 us',
      'loop blocked ms',
      'beyond RAM',
      'garbage B/page',
    ],
  })
  for (const [{ name, what }, rounds] of results) {
    const over = (pick: (round: Round) => number): Spread => spread(rounds.map(pick))
    const rate = over(({ source }) => (source.pages * TARGET_PAGE_SIZE) / source.totalMs / 1e6)
    table.push([
      name,
      what,
      show(rate, 2),
      show(
        over(({ source }) => source.downtimeMs),
        1,
      ),
      show(
        over(({ destination }) => destination.requestedPages),
        0,
      ),
      `${over(({ destination }) => destination.fault?.p50Us ?? 0).median.toFixed(0)} / ${over(({ destination }) => destination.fault?.p99Us ?? 0).median.toFixed(0)}`,
      show(
        over(({ source, destination }) =>
          Math.max(source.loopBlockedMs, destination.loopBlockedMs),
        ),
        1,
      ),
      formatByteSize(
        over(({ source, destination }) =>
          Math.max(source.beyondRamBytes, destination.beyondRamBytes),
        ).median,
      ),
      over(({ source, garbageBytes }) => garbageBytes / source.pages).median.toFixed(1),
    ])
  }
  console.log(`${os.cpus().length} CPUs, Linux ${os.release()}, Node ${process.version}`)
  console.log('median (minimum - maximum) of rounds taken in turn')
  console.log(table.toString())
}

function show({ min, median, max }: Spread, digits: number): string {
  return `${median.toFixed(digits)} (${min.toFixed(digits)} - ${max.toFixed(digits)})`
}

const names = [...new Set(trials.map(({ name }) => name))]
await new Command('bench')
  .description('Measures migrations between two processes on this machine.')
  .argument('[names...]', `which benchmarks: ${names.join(', ')} (default: all)`)
  .option('--quick', 'one round of each instead of five')
  .option('--json', 'every round as JSON instead of a table')
  .action(async (chosen: string[], options: { quick?: boolean; json?: boolean }) => {
    const results = await runTrials(chosen, options.quick === true ? 1 : 5)
    if (options.json === true) {
      console.log(JSON.stringify([...results].map(([trial, rounds]) => ({ ...trial, rounds }))))
    } else print(results)
  })
  .parseAsync()

/**
 * `npm run soak [-- --minutes N] [-- --seed N]`: migrates guests that check themselves between two
 * hosts, and breaks their connections in every supported way. Ends at the first failure, and
 * prints what is needed to reproduce it.
 */
import { Command, InvalidArgumentError } from 'commander'
import { type CommandRun, endProcess, output, parseCount, runCommand } from '../cli/index.js'
import { errorToRecord } from '../errors.js'
import { Ground } from './ground.js'
import { Soak } from './soak.js'

const LINE_MS = 10_000

interface Options {
  readonly minutes: number
  readonly seed: number
  readonly leg: number
  readonly verbose?: true
}

function parseMinutes(text: string): number {
  const minutes = Number(text)
  if (!(minutes > 0) || minutes === Infinity) throw new InvalidArgumentError('Give more than 0.')
  return minutes
}

function parseLeg(text: string): number {
  return text === '0' ? 0 : parseCount(text)
}

/** @returns the exit status */
async function run(
  { minutes, seed, leg, verbose }: Options,
  { scope, signals }: CommandRun,
): Promise<number> {
  const startedAt = performance.now()
  let saidAt = startedAt
  const ground = await scope.use(Ground.create(), (made) => made.close())
  const soak: Soak = new Soak(
    {
      seed,
      firstLeg: leg,
      lengthMs: minutes * 60_000,
      onLeg: (done, tally) => {
        if (performance.now() - saidAt < LINE_MS) return
        saidAt = performance.now()
        output.print(`${clock(saidAt - startedAt)} leg ${done}: ${tally.summary}\n`)
      },
      ...(verbose === true ? { onNote: (line: string) => output.print(`${line}\n`) } : {}),
    },
    ground,
  )
  const where = ground.hosts === undefined ? 'on loopback' : 'between two network namespaces'
  output.print(`soak of ${minutes} minutes ${where}, seed ${seed}\n`)
  const conclude = (): void => {
    const elapsed = clock(performance.now() - startedAt)
    output.print(`${soak.tally.table}\nin ${elapsed}, seed ${seed}, legs ${leg} to ${soak.leg}\n`)
  }
  signals.interrupted.catch(conclude)
  try {
    await soak.run()
    conclude()
    return 0
  } catch (error) {
    if (signals.received === undefined) conclude()
    const { code, message } = errorToRecord(error)
    // After a signal the hosts are removed, and what ran on them fails.
    if (signals.received !== undefined) return 1
    output.say(`${soak.journal.text}\n\n${message} [${code}]`)
    output.say(`to repeat: npm run soak -- --seed ${seed} --leg ${soak.leg}`)
    return 1
  }
}

function clock(ms: number): string {
  const seconds = Math.floor(ms / 1000)
  const two = (number: number): string => String(number).padStart(2, '0')
  return `${Math.floor(seconds / 3600)}:${two(Math.floor(seconds / 60) % 60)}:${two(seconds % 60)}`
}

let status = 0
await new Command('soak')
  .description(
    'Migrates guests back and forth between two hosts, breaks the connections, and checks the guests.',
  )
  .option('--minutes <number>', 'duration', parseMinutes, 60)
  .option('--seed <number>', 'seed of all random choices (default: a new one)', parseCount)
  .option('--leg <number>', 'number of the migration to begin with', parseLeg, 0)
  .option('--verbose', 'print every decision, command and state')
  .action(async (options: Omit<Options, 'seed'> & { seed?: number }) => {
    const seed = options.seed ?? 1 + Math.floor(Math.random() * 999_999_999)
    status = await runCommand((context) => run({ ...options, seed }, context))
  })
  .parseAsync()
await endProcess(status)

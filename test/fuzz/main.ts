/** `npm run fuzz`: fuzzes each target for its share of the time, and prints the findings. */
import { createHash } from 'node:crypto'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { Command, InvalidArgumentError } from 'commander'
import { type Outcome, fuzz } from './campaign.js'
import { buildNative, fuzzNative, nativeTargets } from './native.js'
import { targets } from './targets/index.js'

/** Long, because a niced process gets little time on a busy host. */
const SILENT_MS = 180_000
const FINDINGS = 'fuzz-findings'

interface Options {
  minutes: number
  seed: number
  save?: true
  input?: string
}

function positive(text: string): number {
  const value = Number(text)
  if (value > 0) return value
  throw new InvalidArgumentError('give a number above 0')
}

const all = [...Object.keys(targets), ...nativeTargets]

const program = new Command('npm run fuzz --')
  .description('Fuzzes the decoders of untrusted bytes.')
  .argument('[target...]', `of ${all.join(', ')}; default: all of them`)
  .option('--minutes <number>', 'total time of all targets', positive, 10)
  .option('--seed <number>', 'seed of the random numbers', positive, Date.now() % 2 ** 32)
  .option('--save', 'write inputs that reach new code to test/fuzz/corpus')
  .option('--input <file>', 'run one target on this input only')
  .action(run)

async function run(names: string[], options: Options): Promise<void> {
  const unknown = names.find((name) => !all.includes(name))
  if (unknown !== undefined) program.error(`no target "${unknown}"; there are: ${all.join(', ')}`)
  const [only = ''] = names
  if (options.input !== undefined) {
    const target = targets[only] ?? program.error('--input needs one TypeScript target')
    process.stdout.write(`${await target.run(readFileSync(options.input))}\n`)
    return
  }
  const chosen = withoutSkipped(names.length === 0 ? all : names)
  const seconds = (options.minutes * 60) / chosen.length
  process.stdout.write(
    `${chosen.length} targets, ${seconds.toFixed(1)} s each, seed ${options.seed}\n`,
  )
  let found = 0
  for (const target of chosen) {
    const outcome = await (nativeTargets.includes(target)
      ? fuzzNative(target, seconds, options.seed, options.save === true)
      : fuzz({
          target,
          seconds,
          seed: options.seed,
          isKept: options.save === true,
          silentMs: SILENT_MS,
        }))
    process.stdout.write(`${lineOf(target, outcome)}\n`)
    for (const finding of outcome.findings) {
      found += 1
      const files = finding.inputs.map((input) => keep(target, input))
      process.stdout.write(`  ${finding.text.replaceAll('\n', '\n  ')}\n  ${files.join('\n  ')}\n`)
    }
  }
  if (found > 0) process.exitCode = 1
}

/** Removes the native targets if there is no compiler for them. */
function withoutSkipped(names: readonly string[]): readonly string[] {
  if (!names.some((name) => nativeTargets.includes(name))) return names
  const reason = buildNative()
  if (reason === undefined) return names
  const demanded = (process.env['POSTCOPY_REQUIRE'] ?? '').split(',')
  if (demanded.includes('libFuzzer'))
    program.error(`POSTCOPY_REQUIRE names libFuzzer, but: ${reason}`)
  process.stdout.write(`skipped ${nativeTargets.join(', ')}: ${reason}\n`)
  return names.filter((name) => !nativeTargets.includes(name))
}

function lineOf(target: string, { executions, blocks, corpus, findings }: Outcome): string {
  const numbers = `${executions} executions, ${blocks} blocks, ${corpus} inputs kept`
  return `${target.padEnd(18)} ${numbers}, ${findings.length} findings`
}

function keep(target: string, input: Uint8Array): string {
  mkdirSync(FINDINGS, { recursive: true })
  const hash = createHash('sha256').update(input).digest('hex').slice(0, 12)
  const file = `${FINDINGS}/${target}-${hash}`
  writeFileSync(file, input)
  return file
}

await program.parseAsync()

// Runs the compiled tests: files side by side on all processors, then those that measure or change
// the host, one after another. Ends with what was skipped and why, and with the line
// `N passed, N failed, N skipped`. Arguments are mocha's; where they name files, only these run.
//
// POSTCOPY_RETRY=N lets up to N tests fail that pass when they are run again alone, and reports them.
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { availableParallelism, tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('..', import.meta.url))
const args = process.argv.slice(2)
const scratch = mkdtempSync(join(tmpdir(), 'postcopy-results-'))

const files = readdirSync(join(root, 'test'), { recursive: true })
  .filter((name) => name.endsWith('.test.ts'))
  .sort()
const isAlone = (name) => /^ \* Runs alone: /m.test(readFileSync(join(root, 'test', name), 'utf8'))
const compiled = (name) => join('dist/test', name.replace(/\.ts$/, '.js'))

let runs = 0

/** Runs mocha. @returns its exit status, and what the reporter has noted */
function mocha(options, specs) {
  runs += 1
  const results = join(scratch, `results-${runs}`)
  const skips = join(scratch, `skips-${runs}`)
  writeFileSync(skips, '')

  const { status } = spawnSync(
    process.execPath,
    [join(root, 'node_modules/mocha/bin/mocha.js'), '--no-config', ...common, ...options, ...specs],
    {
      cwd: root,
      stdio: 'inherit',
      env: {
        ...process.env,
        POSTCOPY_RESULTS: results,
        POSTCOPY_SKIPS: skips,
        POSTCOPY_SIDE_BY_SIDE: options.includes('--parallel') ? '1' : undefined,
      },
    },
  )
  const lines = readFileSync(skips, 'utf8').split('\n').filter(Boolean)
  try {
    return {
      status,
      ...JSON.parse(readFileSync(results, 'utf8')),
      skips: lines.map((line) => JSON.parse(line)),
    }
  } catch {
    process.stderr.write(`postcopy: mocha ended with status ${status} before its last test\n`)
    return { status: status || 1, passes: 0, failures: [], pending: 0, skips: [] }
  }
}

const config = JSON.parse(readFileSync(join(root, '.mocharc.json'), 'utf8'))
const common = [
  ...config.require.flatMap((file) => ['--require', file]),
  ...['--reporter', config.reporter, '--timeout', String(config.timeout)],
  ...(config.forbidOnly ? ['--forbid-only'] : []),
]

const named = args.filter((word) => /\.[jt]s$/.test(word))
const given = args.filter((word) => !named.includes(word))
const groups =
  named.length > 0
    ? [
        {
          options: given,
          specs: named.map((name) =>
            name.replace(/^(?:dist\/)?test\/(.*)\.ts$/, 'dist/test/$1.js'),
          ),
        },
      ]
    : [
        {
          options: ['--parallel', '--jobs', String(availableParallelism()), ...given],
          specs: files.filter((name) => !isAlone(name)).map(compiled),
        },
        { options: given, specs: files.filter(isAlone).map(compiled) },
      ]

const all = groups
  .filter(({ specs }) => specs.length > 0)
  .map(({ options, specs }) => mocha(options, specs))
const reasons = new Map()
for (const { title, reason } of all.flatMap(({ skips }) => skips)) {
  reasons.set(reason, [...(reasons.get(reason) ?? []), title])
}
for (const [reason, titles] of reasons) {
  console.log(`skipped: ${reason}`)
  for (const title of titles) console.log(`  - ${title}`)
}

const sum = (of) => all.reduce((total, run) => total + of(run), 0)
let passes = sum(({ passes }) => passes)
let failures = all.flatMap(({ failures }) => failures)
const retries = Number(process.env.POSTCOPY_RETRY ?? 0)
const flaky = []
if (failures.length > 0 && failures.length <= retries) {
  for (const failure of failures) {
    console.log(`\nonce more, alone: ${failure.title}`)
    const again = mocha(['--fgrep', failure.title], [failure.file])
    if (again.status === 0 && again.passes > 0) flaky.push(failure)
  }
  failures = failures.filter((failure) => !flaky.includes(failure))
  passes += flaky.length
}
for (const { title, output } of flaky) {
  console.log(`\nFLAKY: ${title} failed, and passed when it was run again alone:\n${output}`)
}
rmSync(scratch, { recursive: true })
console.log(`${passes} passed, ${failures.length} failed, ${sum(({ pending }) => pending)} skipped`)
// Ended by a signal, or with a status that no failed test explains.
const isBroken = all.some(
  ({ status, failures }) => status === null || (status !== 0 && failures.length === 0),
)
process.exitCode = failures.length > 0 || isBroken ? 1 : 0

/**
 * `scripts/test.mjs` on a project of a few tests: what it runs, adds up, and runs once more.
 *
 * Runs alone: the script lends huge pages for its tests.
 */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { cpSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { cleanups } from '../support/cleanup.js'

const root = fileURLToPath(new URL('../../../', import.meta.url))

/** Test files by name; `alone` of those that run one after another. */
type Files = Readonly<Record<string, { readonly code: string; readonly alone?: boolean }>>

function run(files: Files, args: readonly string[] = [], env: NodeJS.ProcessEnv = {}) {
  const folder = mkdtempSync(join(tmpdir(), 'postcopy-test-script-'))
  cleanups.add(() => {
    rmSync(folder, { recursive: true, force: true })
  })
  const write = (name: string, text: string): void => {
    mkdirSync(dirname(join(folder, name)), { recursive: true })
    writeFileSync(join(folder, name), text)
  }
  for (const name of ['scripts/test.mjs', '.mocharc.json', 'package.json']) {
    mkdirSync(dirname(join(folder, name)), { recursive: true })
    cpSync(join(root, name), join(folder, name))
  }
  for (const name of ['node_modules', 'build', 'dist/src', 'dist/test/support']) {
    mkdirSync(dirname(join(folder, name)), { recursive: true })
    symlinkSync(join(root, name), join(folder, name))
  }
  for (const [name, { code, alone }] of Object.entries(files)) {
    write(`test/${name}.test.ts`, alone === true ? '/**\n * Runs alone: here.\n */\n' : '')
    write(`dist/test/${name}.test.js`, `import assert from 'node:assert'\n${code}`)
  }
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    [join(folder, 'scripts/test.mjs'), ...args],
    { cwd: folder, encoding: 'utf8', env: { ...process.env, POSTCOPY_REQUIRE: '', ...env } },
  )
  return { status, output: stdout + stderr, last: stdout.trimEnd().split('\n').at(-1) }
}

const passes = (title: string): string => `it('${title}', () => {})\n`
const fails = (title: string): string => `it('${title}', () => { assert.fail('always') })\n`
/** Fails in the first process that runs it, and passes in every other one. */
const failsOnce = (title: string): string =>
  `import { existsSync, writeFileSync } from 'node:fs'
   it('${title}', () => {
     if (existsSync('${title}')) return
     writeFileSync('${title}', '')
     assert.fail('only once')
   })\n`

describe('the script that runs the tests', () => {
  it('adds up both groups, and lists skipped tests with the reason', () => {
    const skips = `import { requires } from './support/requires.js'
      it('c', function () { requires(this, 'none') })\n`
    const { status, output, last } = run({
      one: { code: passes('a') },
      two: { code: passes('b'), alone: true },
      three: { code: skips.replace("'none'", "'strace'") },
    }, [], { PATH: '' })
    assert.equal(last, '2 passed, 0 failed, 1 skipped', output)
    assert.match(output, /skipped: strace: no strace .*\n {2}- c\n/)
    assert.equal(status, 0)
  })

  it('fails if a signal ends mocha, before or after its last test', () => {
    const kill = `process.kill(process.pid, 'SIGKILL')`
    const before = run({ one: { code: `${passes('a')}it('b', () => ${kill})\n`, alone: true } })
    assert.deepEqual([before.status, before.last], [1, '0 passed, 0 failed, 0 skipped'])
    assert.match(before.output, /mocha ended with status null before its last test/)
    const after = run({ one: { code: `${passes('a')}process.on('exit', () => ${kill})\n`, alone: true } })
    assert.deepEqual([after.status, after.last], [1, '1 passed, 0 failed, 0 skipped'])
  })

  it('fails if a test fails', () => {
    const { status, last } = run({ one: { code: passes('a') + fails('b') }, two: { code: passes('c') } })
    assert.deepEqual([status, last], [1, '2 passed, 1 failed, 0 skipped'])
  })

  it('fails if a file cannot be loaded', () => {
    const { status } = run({ one: { code: "throw new Error('not loaded')\n" } })
    assert.equal(status, 1)
  })

  it('runs only the named files, and only the matching titles', () => {
    const files = { one: { code: passes('a') + passes('b') }, two: { code: fails('c') } }
    assert.equal(run(files, ['test/one.test.ts', '-g', 'a']).last, '1 passed, 0 failed, 0 skipped')
  })

  it('reports a failed test that passes alone as flaky, with its output', () => {
    const { status, output, last } = run({ one: { code: failsOnce('d') } }, [], { POSTCOPY_RETRY: '2' })
    assert.match(output, /FLAKY: d failed, and passed when it was run again alone:\n.*only once/)
    assert.deepEqual([status, last], [0, '1 passed, 0 failed, 0 skipped'])
  })

  it('fails if a test fails again, or if too many tests fail', () => {
    const again = run({ one: { code: fails('e') } }, [], { POSTCOPY_RETRY: '2' })
    assert.deepEqual([again.status, again.last], [1, '0 passed, 1 failed, 0 skipped'])
    const many = { one: { code: failsOnce('f') }, two: { code: failsOnce('g').replaceAll('\n', ' ') } }
    const tooMany = run(many, [], { POSTCOPY_RETRY: '1' })
    assert.deepEqual([tooMany.status, tooMany.last], [1, '0 passed, 2 failed, 0 skipped'])
  })
})

/**
 * Runs alone: experiments change the host.
 */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { constants, tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { cleanups } from '../support/cleanup.js'
import { requires } from '../support/requires.js'

const main = join(dirname(fileURLToPath(import.meta.url)), '../../bundle/cli/main.js')
const setting = '/proc/sys/vm/swappiness'

/** Changes a setting, records its process and folder, and hangs. */
const hanging = (marker: string, value: number) => `
  import { writeFileSync } from 'node:fs'
  import { experiment } from 'postcopy/lab'
  export const hangs = experiment({
    id: 'hangs', tags: [], question: '?', method: '.', deadlineMs: 60_000,
    changes: [${JSON.stringify(setting)}],
    expected: [],
    run(lab) {
      lab.set(${JSON.stringify(setting)}, ${value})
      writeFileSync(${JSON.stringify(marker)}, process.pid + ' ' + lab.scratch)
      return new Promise(() => setInterval(() => {}, 1000))
    },
  })`

/** Several experiments that work in their folders, and fail if those are missing. */
const working = (marker: string) => `
  import { appendFileSync, existsSync, writeFileSync } from 'node:fs'
  import { setImmediate as turn } from 'node:timers/promises'
  import { experiment } from 'postcopy/lab'
  const works = (id) => experiment({
    id, tags: [], question: '?', method: '.', deadlineMs: 60_000, expected: [],
    async run(lab) {
      const marker = ${JSON.stringify(marker)}
      appendFileSync(marker, (existsSync(marker) ? ' ' : '') + lab.scratch)
      for (let i = 0; ; i += 1) {
        writeFileSync(lab.scratch + '/file', String(i))
        await turn()
      }
    },
  })
  export const [first, second, third] = [works('first'), works('second'), works('third')]`

describe('an interrupted lab', () => {
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    it(`restores the host and ends its child on ${signal}`, async function () {
      requires(this, 'root')
      const folder = mkdtempSync(join(tmpdir(), 'postcopy-test-'))
      cleanups.add(() => rmSync(folder, { recursive: true }))
      const [file, marker] = [join(folder, 'hangs.mjs'), join(folder, 'marker')]
      const before = readFileSync(setting, 'utf8')
      const changed = Number(before) === 17 ? 18 : 17
      writeFileSync(file, hanging(marker, changed))
      const lab = spawn(process.execPath, [main, 'lab', 'run', file], { stdio: 'ignore' })
      const ended = new Promise((resolve) => {
        lab.once('exit', (...end) => resolve(end))
      })
      const deadline = Date.now() + 10_000
      while (!existsSync(marker) && Date.now() < deadline) await sleep(20)
      await sleep(50)
      assert.equal(Number(readFileSync(setting, 'utf8')), changed)
      const [pid = '', scratch = ''] = readFileSync(marker, 'utf8').split(' ')
      lab.kill(signal)
      assert.deepEqual(await ended, [128 + constants.signals[signal], null])
      assert.equal(readFileSync(setting, 'utf8'), before)
      assert.ok(!existsSync(scratch))
      while (existsSync(`/proc/${pid}`) && Date.now() < deadline) await sleep(20)
      assert.ok(!existsSync(`/proc/${pid}`))
    })
  }

  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    it(`gives no verdict on an experiment that ${signal} has interrupted, and starts no other`, async () => {
      const folder = mkdtempSync(join(tmpdir(), 'postcopy-test-'))
      cleanups.add(() => rmSync(folder, { recursive: true }))
      const [file, marker] = [join(folder, 'works.mjs'), join(folder, 'marker')]
      writeFileSync(file, working(marker))
      const lab = spawn(process.execPath, [main, 'lab', 'run', file])
      cleanups.add(() => lab.kill('SIGKILL'))
      const said = { stdout: '', stderr: '' }
      lab.stdout.on('data', (text: Buffer) => (said.stdout += text.toString()))
      lab.stderr.on('data', (text: Buffer) => (said.stderr += text.toString()))
      const ended = once(lab, 'close')
      while (!existsSync(marker) && lab.exitCode === null) await sleep(20)
      assert.equal(lab.exitCode, null, said.stderr)
      lab.kill(signal)
      assert.deepEqual(await ended, [128 + constants.signals[signal], null])
      assert.deepEqual(said, { stdout: '', stderr: `postcopy: ended by ${signal}\n` })
      const scratch = readFileSync(marker, 'utf8').split(' ')
      assert.equal(scratch.length, 1, 'one experiment has begun')
      assert.equal(existsSync(scratch[0] ?? ''), false)
    })
  }
})

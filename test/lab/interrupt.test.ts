import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { constants, tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { cleanups } from '../support/cleanup.js'
import { requires } from '../support/requires.js'

const main = join(dirname(fileURLToPath(import.meta.url)), '../../src/cli/main.js')
const setting = '/proc/sys/vm/swappiness'

/** Changes a setting, writes down its process and where it works, and hangs. */
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

describe('an interrupted lab', () => {
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    it(`puts the host back and ends its child on ${signal}`, async function () {
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
})

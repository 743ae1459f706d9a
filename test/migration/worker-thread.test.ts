/**
 * Workers may be terminated at any time: Node, our addons and the guests
 * in the process must survive.
 */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { WorkerThread } from '../../src/migration/worker-thread.js'
import { runNode } from '../support/node-script.js'

const slowWorker = new URL('../support/slow-worker.js', import.meta.url)
const root = new URL('../../../', import.meta.url)

/** Raise it to look for rare aborts; a few rounds find the frequent ones. */
const rounds = Number(process.env['POSTCOPY_TEST_ROUNDS'] ?? 12)

function addonPath(name: string): string {
  return createRequire(import.meta.url).resolve(`../../../build/Release/${name}.node`)
}

describe('WorkerThread', () => {
  it('terminates a worker only after its modules have been evaluated', async () => {
    const evaluated = new Int32Array(new SharedArrayBuffer(4))
    const events = { notice: () => undefined, ended: () => undefined }
    const worker = new WorkerThread(slowWorker, 'slow', evaluated.buffer, events)
    await worker.terminate()
    assert.equal(Atomics.load(evaluated, 0), 1)
    await worker.ended
  })

  it('makes process.exit() wait for starting workers', () => {
    const { stdout } = runNode(
      `import { WorkerThread } from ${JSON.stringify(new URL('../../src/migration/worker-thread.js', import.meta.url))}
       import { writeSync } from 'node:fs'
       const evaluated = new Int32Array(new SharedArrayBuffer(4))
       new WorkerThread(new URL(${JSON.stringify(slowWorker)}), 'slow', evaluated.buffer, {
         notice() {}, ended() {},
       })
       process.on('exit', () => writeSync(1, 'evaluated: ' + Atomics.load(evaluated, 0) + '\\n'))
       process.exit(0)`,
    )
    assert.match(stdout, /^evaluated: 1$/m)
  })

  for (const inputType of [['--input-type=module'], ['--input-type', 'module']]) {
    it(`runs the example of the README under ${inputType.join(' ')} -e`, () => {
      const readme = readFileSync(new URL('README.md', root), 'utf8')
      const [, example] = /## As a library\n.*?```ts\n(.*?)```/s.exec(readme) ?? []
      assert(example !== undefined)
      const code = example.replace(
        "from 'postcopy'",
        `from ${JSON.stringify(new URL('dist/src/index.js', root))}`,
      )
      // One of the flags is a V8 flag, which a worker must not receive.
      const flags = ['--max-old-space-size=512', ...inputType, '-e', code]
      const { status, stdout, stderr } = spawnSync(process.execPath, flags, {
        encoding: 'utf8',
        timeout: 50_000,
        killSignal: 'SIGKILL',
      })
      assert.equal(status, 0, stderr)
      assert.match(stdout, /^completed$/m)
    })
  }
})

describe('A worker that is terminated during calls of an addon', () => {
  const cases: readonly (readonly [title: string, addon: string, loop: string])[] = [
    [
      'that attach and read a region',
      'postcopy',
      `const own = addon.regionCreate(0, 8192, false, 'x'); const { id } = addon.regionInfo(own)
       const turn = () => {
         const region = addon.regionAttach(id)
         addon.regionInfo(region); addon.regionLease(region); addon.regionClose(region)
       }`,
    ],
    [
      'that open and watch a userfaultfd',
      'postcopy',
      `const turn = () => {
         const uffd = addon.uffdOpen(1, true, 0n)
         const watch = addon.watchStart(uffd, () => undefined, false)
         addon.uffdInfo(uffd); addon.uffdProbe(1, true); addon.watchStop(watch); addon.uffdClose(uffd)
       }`,
    ],
    ['that throw', 'postcopy', `const turn = () => { try { addon.regionAttach('x') } catch {} }`],
    [
      'of a machine that throw',
      'vcpu',
      `const turn = () => { try { addon.machineCreate({}, {}) } catch {} }`,
    ],
    [
      'that start programs of the lab',
      'lab',
      `const turn = () => {
         const program = addon.programStart(new Float64Array([7, 0, 0, 0, 0, 0, 0, 0]), new Float64Array([1, 0, -1, 0, -1, 0]))
         if (typeof program === 'number') return
         addon.programInfo(program); addon.programOutcomes(program); addon.syscallNumbers()
       }`,
    ],
  ]
  for (const [title, addon, loop] of cases) {
    it(`does not end the process: calls ${title}`, () => {
      const code = `
        const addon = require(${JSON.stringify(addonPath(addon))})
        ${loop}
        require('node:worker_threads').parentPort.postMessage('ready')
        for (;;) turn()`
      const { stdout } = runNode(
        `import { Worker } from 'node:worker_threads'
         import { setTimeout as sleep } from 'node:timers/promises'
         import { createRequire } from 'node:module'
         createRequire(import.meta.url)(${JSON.stringify(addonPath(addon))})
         for (let round = 0; round < ${rounds}; round += 1) {
           const worker = new Worker(${JSON.stringify(code)}, { eval: true })
           await new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject))
           await sleep(round % 4)
           await worker.terminate()
         }
         console.log('end')`,
      )
      assert.match(stdout, /^end$/m)
    })
  }
})

import assert from 'node:assert/strict'
import { Worker } from 'node:worker_threads'
import { MemoryRegion } from '../../src/kernel/index.js'
import { cleanups } from '../support/cleanup.js'
import { runNode } from '../support/node-script.js'

const kernel = new URL('../../src/kernel/index.js', import.meta.url).href

/**
 * A worker that evaluates the code it receives, with `region` attached,
 * and answers with the result.
 */
class RegionWorker {
  readonly worker: Worker

  constructor(id: number) {
    this.worker = new Worker(
      `const { parentPort, workerData } = require('node:worker_threads')
       import(${JSON.stringify(kernel)}).then(({ MemoryRegion }) => {
         const region = MemoryRegion.attach(workerData)
         parentPort.on('message', (code) => {
           try { parentPort.postMessage(String(eval(code))) }
           catch (error) { parentPort.postMessage(error.code ?? String(error)) }
         })
       })`,
      { eval: true, workerData: id },
    )
    cleanups.add(() => this.worker.terminate())
  }

  async run(code: string): Promise<string> {
    const answer = new Promise<string>((resolve, reject) => {
      this.worker.once('message', resolve)
      this.worker.once('error', reject)
    })
    this.worker.postMessage(code)
    return answer
  }
}

describe('MemoryRegion across threads', () => {
  it('stays mapped until the last thread has closed it', async () => {
    const region = MemoryRegion.create({ kind: 'anon', lengthBytes: 4096 })
    region.write(0, Uint8Array.of(42))
    const other = new RegionWorker(region.id)
    assert.equal(await other.run('region.id'), String(region.id))
    region.close()
    assert.throws(
      () => {
        region.read(0, new Uint8Array(1))
      },
      { code: 'ERR_CLOSED' },
    )
    assert.equal(await other.run('let b = new Uint8Array(1); region.read(0, b); b[0]'), '42')
    const again = MemoryRegion.attach(region.id)
    assert.equal(again.address, region.address)
    again.close()
    assert.equal(await other.run('region.close(), region.touch(0, 1, "write")'), 'ERR_CLOSED')
    assert.throws(() => MemoryRegion.attach(region.id), { code: 'ENOENT' })
  })

  it('is released by a worker that ends without closing it', async () => {
    const region = MemoryRegion.create({ kind: 'memfd', lengthBytes: 4096 })
    const other = new RegionWorker(region.id)
    await other.run('region.touch(0, 1, "write")')
    region.close()
    MemoryRegion.attach(region.id).close()
    await other.worker.terminate()
    assert.throws(() => MemoryRegion.attach(region.id), { code: 'ENOENT' })
  })

  it('can be loaded in many workers at once', async () => {
    const region = MemoryRegion.create({ kind: 'anon', lengthBytes: 8 * 4096 })
    cleanups.add(() => {
      region.close()
    })
    const workers = Array.from({ length: 8 }, () => new RegionWorker(region.id))
    await Promise.all(
      workers.map((each, i) => each.run(`region.write(${i} * 4096, Uint8Array.of(${i + 1}))`)),
    )
    const bytes = new Uint8Array(8 * 4096)
    region.read(0, bytes)
    assert.deepEqual(
      workers.map((_, i) => bytes[i * 4096]),
      [1, 2, 3, 4, 5, 6, 7, 8],
    )
  })

  it('stays known to the process after the only worker that had loaded the addon has ended', () => {
    const { stdout } = runNode(
      `import { Worker } from 'node:worker_threads'
       const code = \`Promise.all([import(${JSON.stringify(kernel)}), import('node:worker_threads')])
         .then(([{ MemoryRegion }, { parentPort }]) => {
           globalThis.kept = MemoryRegion.create({ kind: 'anon', lengthBytes: 4096 })
           parentPort.postMessage(kept.id)
         })\`
       for (let round = 0; round < 3; round += 1) {
         const worker = new Worker(code, { eval: true })
         const id = await new Promise((resolve) => worker.once('message', resolve))
         await worker.terminate()
         console.log(id)
       }`,
    )
    assert.deepEqual(stdout.trim().split('\n'), ['1', '2', '3'])
  })

  it('is unmapped when its handle is garbage collected', () => {
    const { stdout } = runNode(
      `import { MemoryRegion } from ${JSON.stringify(kernel)}
       const id = (() => MemoryRegion.create({ kind: 'anon', lengthBytes: 4096 }).id)()
       for (let i = 0; i < 20; i += 1) {
         gc()
         await new Promise(setImmediate)
       }
       try { MemoryRegion.attach(id) } catch (error) { console.log(error.code, error.message) }`,
      ['--expose-gc'],
    )
    assert.match(stdout, /^ENOENT .*garbage collected: keep a handle as long as the id is used/)
  })

  it('is not kept mapped by an unused lease', () => {
    const region = MemoryRegion.create({ kind: 'anon', lengthBytes: 4096 })
    const lease = region.lease()
    region.close()
    assert.throws(() => MemoryRegion.attach(region.id), { code: 'ENOENT' })
    assert.equal(typeof lease, 'object')
  })
})

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import { Worker } from 'node:worker_threads'
import { EVENT_STRIDE, FaultEvent } from '../../src/kernel/index.js'
import { makeRegion } from '../support/memory-kinds.js'
import { runNode } from '../support/node-script.js'
import { Parked, nextFaults, openUffd } from '../support/park.js'

const kernel = new URL('../../src/kernel/index.js', import.meta.url).href
const parkWorker = new URL('../support/park-worker.js', import.meta.url).href

/** Evaluates code in a worker that has `uffd` and `region` attached. */
function watchWorker(uffdId: number, regionId: number, code: string): Worker {
  return new Worker(
    `const { parentPort, workerData: [uffdId, regionId] } = require('node:worker_threads')
     import(${JSON.stringify(kernel)}).then(({ MemoryRegion, Userfaultfd }) => {
       const uffd = Userfaultfd.attach(uffdId)
       const region = MemoryRegion.attach(regionId)
       ${code}
     })`,
    { eval: true, workerData: [uffdId, regionId] },
  )
}

describe('Userfaultfd.watch', () => {
  it('calls the listener for each batch until it is stopped', async () => {
    const region = makeRegion('anon', 3)
    const uffd = openUffd()
    uffd.register(region.address, region.lengthBytes, { missing: true })
    const seen: number[] = []
    const stop = uffd.watch((count) => {
      for (let i = 0; i < count; i += 1) {
        const address = uffd.events[i * EVENT_STRIDE + FaultEvent.address] ?? 0
        seen.push(address - region.address)
        uffd.zeropage(address, 4096)
      }
    })
    for (const offset of [0, 4096])
      assert.equal(await new Parked(region, 'read', offset).result, 'done')
    stop()
    stop()
    const late = new Parked(region, 'read', 8192)
    assert.equal(await late.sleeps(), true)
    assert.deepEqual(seen, [0, 4096])
    uffd.zeropage(region.address + 8192, 4096)
    assert.equal(await late.result, 'done')
  })

  it('can be stopped, and the descriptor closed, inside the listener', async () => {
    const region = makeRegion('anon', 1)
    const uffd = openUffd()
    uffd.register(region.address, 4096, { missing: true })
    const parked = new Parked(region, 'read', 0)
    await new Promise<void>((resolve) => {
      const stop = uffd.watch(() => {
        uffd.zeropage(region.address, 4096)
        uffd.close()
        stop()
        resolve()
      })
    })
    assert.equal(await parked.result, 'done')
  })

  it('is once per thread, and can start again', async () => {
    const region = makeRegion('anon', 1)
    const uffd = openUffd()
    uffd.register(region.address, 4096, { missing: true })
    const stop = uffd.watch(() => undefined)
    assert.throws(() => uffd.watch(() => undefined), { code: 'EEXIST' })
    stop()
    await sleep(1)
    const parked = new Parked(region, 'read', 0)
    await nextFaults(uffd)
    uffd.zeropage(region.address, 4096)
    assert.equal(await parked.result, 'done')
  })

  it('resolves faults of the main thread from a worker', async () => {
    const region = makeRegion('anon', 64)
    const uffd = openUffd()
    uffd.register(region.address, region.lengthBytes, { missing: true })
    const worker = watchWorker(
      uffd.id,
      region.id,
      `let faults = 0
       const page = new Uint8Array(4096)
       uffd.watch((count) => {
         for (let i = 0; i < count; i += 1) {
           page.fill(faults += 1)
           uffd.copy(uffd.events[i * ${EVENT_STRIDE} + ${FaultEvent.address}], page)
         }
       })
       parentPort.postMessage('ready')
       parentPort.once('message', () => process.exit(faults))`,
    )
    await once(worker, 'message')
    // This thread sleeps in each of these calls.
    const byte = new Uint8Array(1)
    for (let page = 0; page < 64; page += 1) {
      region.read(page * 4096 + 77, byte)
      assert.equal(byte[0], page + 1)
    }
    worker.postMessage('stop')
    const [exitCode] = (await once(worker, 'exit')) as [number]
    assert.equal(exitCode, 64)
  })

  it('ends with its worker, and threads stay parked until another worker resolves their faults', async () => {
    const region = makeRegion('anon', 1)
    const uffd = openUffd()
    uffd.register(region.address, 4096, { missing: true })
    const worker = watchWorker(
      uffd.id,
      region.id,
      `uffd.watch(() => parentPort.postMessage('fault')); parentPort.postMessage('ready')`,
    )
    await once(worker, 'message')
    const parked = new Parked(region, 'read', 0)
    await once(worker, 'message')
    assert.equal(await worker.terminate(), 1)
    assert.equal(await parked.sleeps(), true)
    uffd.zeropage(region.address, 4096)
    assert.equal(await parked.result, 'done')
  })

  it('rethrows an error of the listener as an uncaught exception', async () => {
    const region = makeRegion('anon', 1)
    const uffd = openUffd()
    uffd.register(region.address, 4096, { missing: true })
    const worker = watchWorker(
      uffd.id,
      region.id,
      `uffd.watch(() => { throw new Error('from the listener') })
       parentPort.postMessage('ready')`,
    )
    await once(worker, 'message')
    const parked = new Parked(region, 'read', 0)
    const [error] = (await once(worker, 'error')) as [Error]
    assert.equal(error.message, 'from the listener')
    uffd.zeropage(region.address, 4096)
    assert.equal(await parked.result, 'done')
  })
})

/** A process with an armed range and a live watch, and perhaps a thread parked on the range. */
function armed(body: string, watch = 'uffd.watch(() => undefined)'): string {
  return `
    import { Worker } from 'node:worker_threads'
    import { setTimeout as sleep } from 'node:timers/promises'
    import { MemoryRegion, Userfaultfd } from ${JSON.stringify(kernel)}
    const region = MemoryRegion.create({ kind: 'anon', lengthBytes: 8192 })
    const uffd = Userfaultfd.open()
    uffd.register(region.address, 8192, { missing: true })
    const stop = ${watch}
    const park = () => new Promise((resolve) => {
      const workerData = { regionId: region.id, action: 'read', offset: 0, length: 1 }
      new Worker(new URL(${JSON.stringify(parkWorker)}), { workerData }).once('message', resolve)
    })
    ${body}
    console.log('end')`
}

describe('A process that watches', () => {
  const cases: [string, string][] = [
    ['stops and ends', armed('stop()')],
    [
      'ends, its watch being unreferenced',
      armed('', `uffd.watch(() => undefined, { ref: false })`),
    ],
    ['exits while watching', armed(`setImmediate(() => process.exit(0))`)],
    ['exits at once', armed(`console.log('end'); process.exit(0)`)],
    [
      // Node joins its workers first. Without unregister() it would wait for this one for ever.
      'exits after a parked thread was released',
      armed(`await park(); await sleep(50); console.log('end')
             uffd.unregister(region.address, 8192); process.exit(0)`),
    ],
    ['closes twice', armed('uffd.close(); uffd.close(); region.close(); region.close()')],
    ['closes the region first', armed('region.close(); uffd.close()')],
    [
      'drops all handles and collects garbage',
      armed(`stop(); for (let i = 0; i < 10; i += 1) { gc(); await sleep(1) }`),
    ],
    [
      'starts and stops often',
      armed(`stop(); for (let i = 0; i < 500; i += 1) { uffd.watch(() => undefined)(); await null }
             for (let i = 0; i < 50; i += 1) { const s = uffd.watch(() => undefined); await sleep(0); s() }`),
    ],
    [
      'terminates many watching workers at any time',
      armed(`stop()
        const code = \`import(${JSON.stringify(kernel)}).then(({ Userfaultfd }) => {
          const uffd = Userfaultfd.attach(\${uffd.id})
          uffd.watch(() => { while (true); })
        })\`
        void park()
        for (let i = 0; i < 12; i += 1) {
          const worker = new Worker(code, { eval: true })
          await sleep(i * 8)
          await worker.terminate()
        }
        console.log('end')
        uffd.unregister(region.address, 8192)
        process.exit(0)`),
    ],
    [
      // In a worker that is being terminated nothing can be thrown, not even a TypeError.
      'terminates workers during calls of the addon',
      armed(`stop()
        const code = \`import(${JSON.stringify(kernel)}).then(({ Userfaultfd }) => {
          const uffd = Userfaultfd.attach(\${uffd.id})
          require('node:worker_threads').parentPort.postMessage('ready')
          for (;;) uffd.read()
        })\`
        for (let i = 0; i < 16; i += 1) {
          const worker = new Worker(code, { eval: true })
          await new Promise((resolve) => worker.once('message', resolve))
          await sleep(i % 4)
          await worker.terminate()
        }`),
    ],
  ]
  for (const [title, source] of cases) {
    it(title, () => {
      const { stdout, stderr } = runNode(source, ['--expose-gc'])
      assert.match(stdout, /^end$/m)
      assert.equal(stderr, '')
    })
  }

  it('is ended by a signal at once, whichever thread is parked', () => {
    const script = armed(`await park(); await sleep(50); process.kill(process.pid, 'SIGTERM')
                          await sleep(10_000)`)
    assert.throws(() => runNode(script), /script ended with SIGTERM/)
  })
})

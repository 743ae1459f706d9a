/** A process whose worker threads are parked on missing pages ends, by itself or on request. */
import assert from 'node:assert/strict'
import { runNode } from '../support/node-script.js'

const kernel = new URL('../../src/kernel/index.js', import.meta.url).href
const parkWorker = new URL('../support/park-worker.js', import.meta.url).href

/** A process in which a worker reads a missing page; `listener` receives the fault. */
function parkedProcess(listener: string, before = ''): string {
  return `
    import { Worker } from 'node:worker_threads'
    import { MemoryRegion, Userfaultfd, exitProcess } from ${JSON.stringify(kernel)}
    const region = MemoryRegion.create({ kind: 'anon', lengthBytes: 8192 })
    const uffd = Userfaultfd.open()
    // The worker has only the id: unless a handle is kept, the region may be collected first.
    globalThis.kept = { region, uffd }
    uffd.register(region.address, 8192, { missing: true })
    ${before}
    uffd.watch(() => { ${listener} })
    const workerData = { regionId: region.id, action: 'read', offset: 0, length: 1 }
    const parked = new Worker(new URL(${JSON.stringify(parkWorker)}), { workerData })
    parked.on('message', (message) => { if (message !== 'begin') console.log('read: ' + message) })`
}

function statusAndOutput(script: string): { status: number; output: string } {
  try {
    const { stdout, stderr } = runNode(script)
    return { status: 0, output: stdout + stderr }
  } catch (error) {
    assert(error instanceof Error)
    const [, status] = /^script ended with (\d+)\n/.exec(error.message) ?? []
    assert.notEqual(status, undefined, error.message)
    return { status: Number(status), output: error.message }
  }
}

describe('A process with a worker that is parked in a missing page', () => {
  it('ends with the error of a watch listener that throws', () => {
    const { status, output } = statusAndOutput(
      parkedProcess(
        `throw new RangeError('from the listener')`,
        `process.on('exit', (code) => console.log('exit listener: ' + code))`,
      ),
    )
    assert.equal(status, 1)
    assert.match(output, /^exit listener: 1$/m)
    assert.match(output, /RangeError: from the listener\n +at /)
    assert.doesNotMatch(output, /read: /)
  })

  it('continues if the exception of a watch listener is handled, and the watch has stopped', () => {
    const { status, output } = statusAndOutput(
      parkedProcess(
        `console.log('fault'); throw new RangeError('from the listener')`,
        `process.once('uncaughtException', ({ message }) => {
           console.log('handled: ' + message)
           // It parks again; another watch reads the fault of this thread.
           setImmediate(() => {
             uffd.wake(region.address, 4096)
             uffd.watch(() => { console.log('second watch'); process.exit(7) })
           })
         })`,
      ),
    )
    assert.equal(status, 7)
    assert.equal(output.match(/fault/g)?.length, 1)
    assert.match(output, /handled: from the listener\nsecond watch/)
    assert.doesNotMatch(output, /read: |Uncaught/)
  })

  it('ends at once, with the given status, by exitProcess', () => {
    const { status, output } = statusAndOutput(parkedProcess('exitProcess(9)'))
    assert.equal(status, 9)
    assert.doesNotMatch(output, /read: /)
  })

  it('ends at once if a worker calls exitProcess while the main thread is parked', () => {
    const { status } = statusAndOutput(`
      import { Worker } from 'node:worker_threads'
      import { MemoryRegion, Userfaultfd } from ${JSON.stringify(kernel)}
      const region = MemoryRegion.create({ kind: 'anon', lengthBytes: 4096 })
      const uffd = Userfaultfd.open()
      uffd.register(region.address, 4096, { missing: true })
      const worker = new Worker(\`import(${JSON.stringify(kernel)}).then(({ Userfaultfd, exitProcess }) => {
        const uffd = Userfaultfd.attach(\${uffd.id})
        uffd.watch(() => exitProcess(11))
        require('node:worker_threads').parentPort.postMessage('ready')
      })\`, { eval: true })
      worker.on('message', () => { region.touch(0, 1, 'read'); process.exit(0) })`)
    assert.equal(status, 11)
  })

  it('rejects an invalid status', () => {
    const script = `
      import assert from 'node:assert/strict'
      import { exitProcess } from ${JSON.stringify(kernel)}
      for (const status of [-1, 256, 0.5, NaN]) assert.throws(() => exitProcess(status), RangeError)
      assert.throws(() => exitProcess('1'), TypeError)
      console.log('refused')`
    assert.equal(statusAndOutput(script).output, 'refused\n')
  })
})

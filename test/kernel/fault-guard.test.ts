/** A guard ends its process if a certain thread waits for a page, and in no other case. */
import assert from 'node:assert/strict'
import { runNode } from '../support/node-script.js'

const kernel = JSON.stringify(new URL('../../src/kernel/index.js', import.meta.url).href)
const parkWorker = JSON.stringify(new URL('../support/park-worker.js', import.meta.url).href)

/** A process whose main thread is guarded. `touch(page)` parks it; `park(page)` parks a worker. */
function guarded(body: string): string {
  return `
    import { readFileSync, readdirSync } from 'node:fs'
    import { Worker } from 'node:worker_threads'
    import { FaultGuard, MemoryRegion, Userfaultfd } from ${kernel}
    const region = MemoryRegion.create({ kind: 'anon', lengthBytes: 8192 })
    const { address } = region
    const uffd = Userfaultfd.open({ features: ['THREAD_ID'] })
    uffd.register(address, 8192, { missing: true })
    const ranges = (text) => [{ address, lengthBytes: 8192, before: text + ': page at ', after: ' of x\\n' }]
    const guard = new FaultGuard(uffd, process.pid, ranges('first'))
    const touch = (page) => { region.touch(page * 4096, 1, 'read'); console.log('read') }
    const park = async (page) => {
      const workerData = { regionId: region.id, action: 'read', offset: page * 4096, length: 1 }
      const worker = new Worker(new URL(${parkWorker}), { workerData })
      const message = () => new Promise((resolve) => worker.once('message', resolve))
      await message()
      return message()
    }
    const commands = () => readdirSync('/proc/self/task').map((id) => {
      try { return readFileSync('/proc/self/task/' + id + '/comm', 'utf8') } catch { return '' }
    })
    // A joined thread may stay in this list for a moment, and a new one has no name at first.
    const guards = async (wanted) => {
      const count = () => commands().filter((name) => name === 'postcopy-guard\\n').length
      while (count() !== wanted) await new Promise((resolve) => setTimeout(resolve, 5))
      console.log('guards: ' + wanted)
    }
    ${body}`
}

function run(body: string): { status: string; output: string } {
  try {
    const { stdout, stderr } = runNode(guarded(body))
    return { status: '0', output: stdout + stderr }
  } catch (error) {
    assert(error instanceof Error)
    const [, status = ''] = /^script ended with (\w+)\n/.exec(error.message) ?? []
    return { status, output: error.message }
  }
}

function assertEnded(body: string, text: RegExp): void {
  const { status, output } = run(body)
  assert.equal(status, '1', output)
  assert.match(output, text)
  assert.doesNotMatch(output, /^read$/m)
}

function assertPrinted(body: string, lines: readonly string[]): void {
  const { status, output } = run(body)
  assert.equal(status, '0', output)
  assert.deepEqual(output.trimEnd().split('\n'), lines)
}

/** A worker that guards the main thread against faults of a userfaultfd, and ends by `end`. */
function guardWorker(open: string, end: string): string {
  const code = `
    import { workerData } from 'node:worker_threads'
    import { FaultGuard, Userfaultfd } from ${kernel}
    const { id, pid, ranges } = workerData
    const uffd = ${open}
    const guard = new FaultGuard(uffd, pid, ranges)
    ${end}`
  return `
    const url = new URL(${JSON.stringify(`data:text/javascript,${encodeURIComponent(code)}`)})
    const workerData = { id: uffd.id, pid: process.pid, ranges: ranges('worker') }
    const worker = new Worker(url, { workerData })`
}

describe('a fault guard', () => {
  it('ends the process when the guarded thread touches a page after begin()', () => {
    assertEnded('guard.begin(); touch(1)', /^first: page at 4096 of x$/m)
  })

  it('writes the text that was given last', () => {
    assertEnded(
      `guard.describe(ranges('second')); guard.begin(); touch(0)`,
      /^second: page at 0 of x$/m,
    )
  })

  it('ends the process for a fault that was read, but not resolved, by a worker that has ended', () => {
    const end = 'uffd.watch(() => process.exit())'
    const body = `${guardWorker('Userfaultfd.attach(id)', end)}
      touch(1)`
    assertEnded(body, /^worker: page at 4096 of x$/m)
  })

  it('ends the process when the worker with the only handle of the userfaultfd has ended', () => {
    const open = `Userfaultfd.open({ features: ['THREAD_ID'] })`
    const end = 'uffd.register(ranges[0].address, 8192, { missing: true }); process.exit()'
    const body = `uffd.close()
      ${guardWorker(open, end)}
      worker.once('exit', () => touch(1))`
    assertEnded(body, /^worker: page at 4096 of x$/m)
  })

  it('leaves other threads parked until another thread resolves their faults', () => {
    const body = `
      guard.begin()
      const done = park(0)
      const info = () => readFileSync('/proc/self/fdinfo/' + uffd.fd, 'utf8')
      const hasRead = () => /^pending:\\s0$/m.test(info()) && /^total:\\s1$/m.test(info())
      while (!hasRead()) await new Promise((resolve) => setTimeout(resolve, 5))
      const other = new FaultGuard(uffd, process.pid, ranges('second'))
      await guards(1)
      const stop = uffd.watch(() => uffd.copy(address, new Uint8Array(4096).fill(7)))
      uffd.wake(address, 8192)
      console.log(await done)
      const byte = new Uint8Array(1)
      region.read(0, byte)
      console.log(byte[0])
      stop()
      other.stop()
      process.exit(0)`
    assertPrinted(body, ['guards: 1', 'done', '7'])
  })

  it('is stopped by stop(), also after begin()', () => {
    const body = `
      await guards(1)
      guard.begin()
      guard.stop()
      guard.stop()
      guard.begin()
      await guards(0)
      uffd.unregister(address, 8192)
      touch(0)`
    assertPrinted(body, ['guards: 1', 'guards: 0', 'read'])
  })

  it('ends when its userfaultfd is closed', () => {
    assertPrinted(`guard.begin(); await guards(1); uffd.close(); await guards(0)`, [
      'guards: 1',
      'guards: 0',
    ])
  })

  it('does not keep the process running', () => {
    assertPrinted(`guard.begin(); await guards(1)`, ['guards: 1'])
  })

  it('rejects an invalid thread id', () => {
    assertPrinted(
      `for (const id of [-1, 1.5, 2 ** 40]) {
         try { new FaultGuard(uffd, id, []) } catch (error) { console.log(error.name) }
       }`,
      ['RangeError', 'RangeError', 'RangeError'],
    )
  })

  it('places pages that were received as zeros, and no other page', () => {
    const body = `
      const received = new Uint8Array(1)
      const zeroed = new Uint8Array(1)
      guard.describe(ranges('bits').map((range) => ({ ...range, received, zeroed })))
      received[0] = zeroed[0] = 1
      guard.begin()
      const byte = new Uint8Array(1).fill(9)
      region.read(0, byte)
      console.log(byte[0])
      touch(1)`
    assertEnded(body, /^0\n[^]*^bits: page at 4096 of x$/m)
  })

  it('guards no thread for the id 0, and places pages for all of them', () => {
    const body = `
      const bits = Uint8Array.of(1)
      const other = new FaultGuard(uffd, 0, ranges('x').map((range) => ({ ...range, received: bits, zeroed: bits })))
      other.begin()
      console.log(await park(0))
      process.exit(0)`
    assertPrinted(body, ['done'])
  })

  it('rejects bitmaps that are too short, and pages that do not fill the range', () => {
    const body = `
      for (const more of [{ received: new Uint8Array(1) }, { pageSizeBytes: 4095 }, { pageSizeBytes: 0 }]) {
        const range = { ...ranges('x')[0], lengthBytes: 9 * 4096, ...more }
        try { guard.describe([range]) } catch (error) { console.log(error.name) }
      }`
    assertPrinted(body, ['RangeError', 'RangeError', 'RangeError'])
  })

  it('that was stopped does not read its bitmaps when it is garbage collected', () => {
    // So large that the memory of a collected bitmap is unmapped.
    const script = guarded(`
      const stopped = () => {
        const received = new Uint8Array(64 * 2 ** 20)
        const range = { address, lengthBytes: 8192, before: '', after: '', received }
        new FaultGuard(uffd, 0, [range]).stop()
      }
      stopped()
      for (let turn = 0; turn < 10; turn += 1) {
        globalThis.gc()
        await new Promise((resolve) => setTimeout(resolve, 10))
      }
      console.log('collected')`)
    assert.equal(runNode(script, ['--expose-gc']).stdout, 'collected\n')
  })
})

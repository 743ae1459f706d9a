/** A destination's process ends even if one of its threads waits for a page that cannot arrive. */
import assert from 'node:assert/strict'
import { runNode } from '../support/node-script.js'

const module = (path: string): string =>
  JSON.stringify(new URL(`../../src/${path}`, import.meta.url).href)
const support = (path: string): string =>
  JSON.stringify(new URL(`../support/${path}`, import.meta.url).href)

/** Code of a postcopy whose source sends only the first page, in precopy, as a zero page. */
function stuckPostcopy(body: string): string {
  return `
    import { Worker } from 'node:worker_threads'
    import { FakeSource, packageOf, part, prologue } from ${support('fake-peer.js')}
    import * as stream from ${module('stream/index.js')}
    import { listenFor, postcopy, reached } from ${support('migration.js')}
    import { TestMachine } from ${support('test-machine.js')}
    const machine = new TestMachine({ blocks: { ram: 2 ** 20 } })
    const region = machine.region('ram')
    const destination = await listenFor(machine, { capabilities: postcopy })
    const begin = async () => {
      const source = await FakeSource.connect(destination.uri, machine)
      source.send(prologue(machine))
      source.send(part((out) => stream.encodeRamZero(out, 'ram', 0)))
      source.send((out) => stream.encodeRamDiscard(out, 'ram', [4096, 2 ** 20 - 4096]))
      source.send(packageOf(machine))
      await reached(destination, 'postcopy-active')
    }
    const offset = 2 ** 20 - 4096
    ${body}`
}

function outcome(script: string, flags: string[] = []): { status: string; output: string } {
  try {
    const { stdout, stderr } = runNode(script, flags)
    return { status: '0', output: stdout + stderr }
  } catch (error) {
    assert(error instanceof Error)
    const [, status = ''] = /^script ended with (\w+)\n/.exec(error.message) ?? []
    return { status, output: error.message }
  }
}

/** The page is touched on the main thread, and the fault is never served. */
const touchOnMain = stuckPostcopy(`
  machine.resumeAfterLoad = () => {
    region.touch(offset, 1, 'read')
    console.log('read')
  }
  await begin()`)

/** Node flags that make the destination's worker run code once a thread waits for a page. */
function onFault(code: string): string[] {
  const preload = `
    import { isMainThread, workerData } from 'node:worker_threads'
    import { createCounters } from ${module('migration/counters.js')}
    if (!isMainThread && workerData?.data?.faultLog !== undefined) {
      const counters = createCounters(workerData.data.counters)
      const timer = setInterval(() => {
        if (counters.faults === 0) return
        clearInterval(timer)
        ${code}
      }, 5)
      timer.unref()
    }`
  return ['--import', `data:text/javascript,${encodeURIComponent(preload)}`]
}

const parkWorker = `
  await begin()
  const workerData = { regionId: region.id, action: 'read', offset, length: 1 }
  const parked = new Worker(new URL(${support('park-worker.js')}), { workerData })
  await new Promise((resolve) => parked.once('message', resolve))
  parked.on('message', () => console.log('read'))
  while (destination.counters.faults === 0) await new Promise((resolve) => setTimeout(resolve, 5))`

/** The part of the message about the page for which the main thread waits. */
const waits = /main thread waits for the page at offset 1044480 of RAM block "ram"/

/** Touches a page on the main thread; the fault is never served. */
const touch = `
  region.touch(offset, 1, 'read')
  console.log('read')`

const pause = `
  await begin()
  destination.pause()
  await reached(destination, 'postcopy-paused')`

function assertEnded({ status, output }: { status: string; output: string }, cause: RegExp): void {
  assert.equal(status, '1', output)
  assert.match(output, waits)
  assert.match(output, cause)
  assert.match(output, /if the source is postcopy, cont -f in its monitor/)
  assert.doesNotMatch(output, /^read$/m)
}

describe('a process with a destination', () => {
  it('ends with a message when the connection is lost while its main thread waits for a page', () => {
    const cut = `for (const handle of process._getActiveHandles()) {
      if (handle.remoteAddress !== undefined) handle.destroy(new Error('the cable was cut'))
    }`
    const { status, output } = outcome(touchOnMain, onFault(cut))
    assert.equal(status, '1', output)
    assert.match(output, /main thread waits for the page at offset 1044480 of RAM block "ram"/)
    assert.match(output, /the cable was cut.*if the source is postcopy, cont -f in its monitor/)
    assert.doesNotMatch(output, /^read$/m)
  })

  it('ends with a message when its worker fails while its main thread waits for a page', () => {
    const { status, output } = outcome(touchOnMain, onFault(`throw new Error('planted')`))
    assert.equal(status, '1', output)
    assert.match(
      output,
      /main thread waits for the page at offset 1044480 of RAM block "ram".*planted/,
    )
    assert.doesNotMatch(output, /^read$/m)
  })

  it('ends with a message when its main thread touches a missing page while paused', () => {
    assertEnded(outcome(stuckPostcopy(pause + touch)), /cannot arrive \(.*was paused by a command/)
  })

  it('ends with a message when its main thread touches a missing page after close()', () => {
    const script = `${pause}
      await destination.close()
      destination.done.catch(() => undefined)
      ${touch}`
    const cause = /was paused by a command\)\. No other thread can recover the migration\./
    assertEnded(outcome(stuckPostcopy(script)), cause)
  })

  it('ends with a message when its main thread touches a missing page after a recovery failed', () => {
    const script = `${pause}
      await destination.recover()
      destination.pause()
      await reached(destination, 'postcopy-paused')
      ${touch}`
    assertEnded(outcome(stuckPostcopy(script)), /cannot arrive \(.*was paused by a command/)
  })

  it('ends with a message when its worker was terminated and its main thread touches a missing page', () => {
    const script = `
      import { watchWorkers } from ${support('workers.js')}
      const workers = watchWorkers()
      ${stuckPostcopy(`await begin()
        void workers[0].terminate()
        ${touch}`)}`
    assertEnded(outcome(script), /the destination worker ended\)\. No other thread can recover/)
  })

  it('ends with a message when its worker exits while its main thread waits for a page', () => {
    assertEnded(outcome(touchOnMain, onFault('process.exit()')), /the destination worker ended/)
  })

  it('ends with a message when its worker is out of memory while its main thread waits for a page', () => {
    const fill = 'for (const kept = []; ; ) kept.push(new Array(1000).fill(kept.length + 0.5))'
    const flags = ['--max-old-space-size=48', ...onFault(fill)]
    assertEnded(outcome(touchOnMain, flags), /the destination worker ended/)
  })

  it('ends with a message when its worker exits while a device waits for a page', () => {
    const script = stuckPostcopy(`
      machine.loadDevice = () => {
        ${touch}
        return 0
      }
      await begin()`)
    const ended = outcome(script, onFault('process.exit()'))
    assertEnded(
      ended,
      /the destination worker ended\)\. The guest does not run here: if the source/,
    )
    assert.doesNotMatch(ended.output, /any more|recover|Do not touch/)
  })

  for (const [how, stop] of [
    ['while it is paused', 'destination.pause()'],
    ['after its worker was terminated', 'void workers[0].terminate()'],
  ] as const) {
    it(`reads a page that was received as zeros ${how}`, () => {
      const script = `
        import { watchWorkers } from ${support('workers.js')}
        const workers = watchWorkers()
        ${stuckPostcopy(`await begin()
          ${stop}
          await reached(destination, 'postcopy-paused')
          region.touch(0, 1, 'read')
          const page = Buffer.alloc(4096, 1)
          region.read(0, page)
          console.log(page.every((byte) => byte === 0))
          process.exit(5)`)}`
      const { status, output } = outcome(script)
      assert.equal(status, '5', output)
      assert.match(output, /^true$/m)
    })
  }

  it('exits normally while it is paused', () => {
    const { status, output } = outcome(
      stuckPostcopy(`${pause}
        process.exit(5)`),
    )
    assert.equal(status, '5', output)
    assert.doesNotMatch(output, /the process ends/)
  })

  for (const state of ['postcopy-active', 'postcopy-paused']) {
    it(`exits after abandon() in ${state} while a worker waits for a page`, () => {
      const pauseNow = `destination.pause()
        await reached(destination, 'postcopy-paused')`
      const { status, output } = outcome(
        stuckPostcopy(`${parkWorker}
          ${state === 'postcopy-paused' ? pauseNow : ''}
          await destination.abandon()
          await destination.done.catch(({ code }) => console.log(code))
          process.exit(5)`),
      )
      assert.equal(status, '5', output)
      assert.match(output, /^ERR_CLOSED$/m)
      assert.doesNotMatch(output, /^read$/m)
    })
  }
})

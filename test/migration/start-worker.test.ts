import assert from 'node:assert/strict'
import { WorkerThread } from '../../src/migration/worker-thread.js'
import { startAhead, takeStarted } from '../../src/migration/start-worker.js'
import { runNode } from '../support/node-script.js'

const echo = new URL('../support/echo-worker.js', import.meta.url)

/** Starts the worker for `data`. @returns what it got, and the id of its thread */
async function run(data: unknown): Promise<{ got: unknown; threadId: number }> {
  let worker: WorkerThread<never, { got: unknown; threadId: number }> | undefined
  const answer = await new Promise<{ got: unknown; threadId: number }>((notice) => {
    worker = new WorkerThread(echo, 'echo', data, { notice, ended: () => undefined })
  })
  await worker?.terminate()
  return answer
}

describe('a worker that is started ahead', () => {
  it('is used once, and gets the data of its user', async () => {
    const before = await run('first')
    startAhead(echo, 'echo')
    startAhead(echo, 'echo')
    const ahead = await run({ shared: new SharedArrayBuffer(8) })
    const after = await run('last')
    assert.deepEqual(before.got, 'first')
    assert((ahead.got as { shared: unknown }).shared instanceof SharedArrayBuffer)
    assert.deepEqual(after.got, 'last')
    // The second call started none, and the third user got a worker of its own.
    assert.equal(ahead.threadId, before.threadId + 1)
    assert.equal(after.threadId, ahead.threadId + 1)
  })

  it('is not used by another module', async () => {
    const slow = new URL('../support/slow-worker.js', import.meta.url)
    startAhead(slow, 'slow')
    assert.equal(takeStarted(echo, 'data'), undefined)
    const evaluated = new SharedArrayBuffer(4)
    const started = takeStarted(slow, evaluated)
    await new Promise((resolve) => started?.worker.once('message', resolve))
    started?.started()
    assert.equal(new Int32Array(evaluated)[0], 1)
    await started?.worker.terminate()
  })

  it('is replaced by a new one if it has failed', async () => {
    const missing = new URL('./no-such-worker.js', import.meta.url)
    startAhead(missing, 'missing')
    while (process.listeners('exit').some(({ name }) => name === 'awaitStarting')) {
      await new Promise((resolve) => setTimeout(resolve, 5))
    }
    assert.equal(takeStarted(missing, 'data'), undefined)
    const cause = await new Promise((ended) => {
      new WorkerThread(missing, 'missing', 'data', { notice: () => undefined, ended })
    })
    assert.match(String(cause), /Cannot find module/)
  })

  for (const end of ['', 'process.exit()']) {
    it(`does not keep its process from ending ${end === '' ? 'by itself' : `by ${end}`}`, () => {
      const module = new URL('../../src/migration/start-worker.js', import.meta.url)
      const { stderr } = runNode(
        `import { startAhead } from ${JSON.stringify(module)}
         startAhead(new URL(${JSON.stringify(echo)}), 'echo')
         ${end}`,
      )
      assert.equal(stderr, '')
    })
  }
})

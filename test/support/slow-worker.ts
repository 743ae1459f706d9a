/** A worker that is slow to start: `evaluated` is 1 after its modules have been evaluated. */
import { writeSync } from 'node:fs'
import { runWorker, workerInput } from '../../src/migration/worker-input.js'

const evaluated = new Int32Array(workerInput() as SharedArrayBuffer)
Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 50)
Atomics.store(evaluated, 0, 1)

runWorker(() => {
  writeSync(1, 'started\n')
  setInterval(() => undefined, 60_000)
})

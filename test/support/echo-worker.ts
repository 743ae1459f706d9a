/** A worker that answers with its data. */
import { parentPort, threadId } from 'node:worker_threads'
import { runWorker, workerInput } from '../../src/migration/worker-input.js'

const got = workerInput()

runWorker(() => {
  parentPort?.postMessage({ got, threadId })
  setInterval(() => undefined, 60_000)
})

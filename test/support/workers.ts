/** The workers that the library starts. */
import type { Worker } from 'node:worker_threads'
import { cleanups } from './cleanup.js'

/** The workers that start from now on, in order. */
export function watchWorkers(): Worker[] {
  const workers: Worker[] = []
  const note = (worker: Worker): void => void workers.push(worker)
  process.on('worker', note)
  cleanups.add(() => process.off('worker', note))
  return workers
}

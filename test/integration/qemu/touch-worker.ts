/** Touches blocks of memory at random, as a vCPU would, from one signal to the next. */
import { parentPort, workerData } from 'node:worker_threads'
import { MemoryRegion } from '../../../src/kernel/memory-region.js'
import { Phase, type TouchBlock, type TouchJob } from './touch.js'

/** Touches between two pauses, so that present pages do not keep a core busy. */
const TOUCHES_PER_MS = 8

const job = workerData as TouchJob
const flag = new Int32Array(job.phase)
let state = job.seed

parentPort?.on('message', ({ regionId, lengthBytes }: TouchBlock) => {
  using region = MemoryRegion.attach(regionId)
  const pages = lengthBytes / 4096
  let touches = 0
  parentPort?.postMessage('ready')
  Atomics.wait(flag, 0, Phase.wait)
  while (Atomics.load(flag, 0) === Phase.touch) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    // A missing page parks this thread until it is placed.
    region.touch((state % pages) * 4096, 1, 'read')
    touches += 1
    if (touches % TOUCHES_PER_MS === 0) Atomics.wait(flag, 0, Phase.touch, 1)
  }
  parentPort?.postMessage(touches)
})

/** Touches memory at random, as a vCPU would, from one signal to the next. */
import { parentPort, workerData } from 'node:worker_threads'
import { MemoryRegion } from '../../../src/kernel/index.js'
import { Phase, type TouchJob } from './touch.js'

const { regionId, lengthBytes, seed, phase } = workerData as TouchJob
const flag = new Int32Array(phase)
using region = MemoryRegion.attach(regionId)
const pages = lengthBytes / 4096
let state = seed
let touches = 0
parentPort?.postMessage('ready')
Atomics.wait(flag, 0, Phase.wait)
while (Atomics.load(flag, 0) === Phase.touch) {
  state = (Math.imul(state, 1664525) + 1013904223) >>> 0
  // A missing page parks this thread until it is placed.
  region.touch((state % pages) * 4096, 1, 'read')
  touches += 1
}
parentPort?.postMessage(touches)

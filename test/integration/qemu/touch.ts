/** Threads that touch memory at random, as vCPUs do. */
import { once } from 'node:events'
import { Worker } from 'node:worker_threads'
import type { MachineBlock } from '../../../src/migration/machine.js'
import { cleanups } from '../../support/cleanup.js'

const TOUCHERS = 3

export const Phase = { wait: 0, touch: 1, end: 2 } as const

export interface TouchJob {
  seed: number
  /** An Int32, see {@link Phase}. */
  phase: SharedArrayBuffer
}

export interface TouchBlock {
  regionId: number
  lengthBytes: number
}

/** Threads that touch one block after another, each from `begin` to `end`. */
export class Touchers {
  readonly #phase = new Int32Array(new SharedArrayBuffer(4))
  readonly #workers: Worker[]

  constructor() {
    this.#workers = Array.from({ length: TOUCHERS }, (_, index) => {
      const seed = Date.now() + index * 7919
      const workerData: TouchJob = { seed, phase: this.#phase.buffer }
      return new Worker(new URL('./touch-worker.js', import.meta.url), { workerData })
    })
    // For a test that failed: closing the destination wakes the threads that are still parked.
    cleanups.add(async () => {
      this.#signal(Phase.end)
      await Promise.all(this.#workers.map((worker) => worker.terminate()))
    })
  }

  #signal(phase: number): void {
    Atomics.store(this.#phase, 0, phase)
    Atomics.notify(this.#phase, 0)
  }

  /** Resolves when all threads wait for the signal to begin with this block. */
  async aim({ region, lengthBytes }: MachineBlock): Promise<void> {
    this.#signal(Phase.wait)
    const ready = this.#workers.map((worker) => once(worker, 'message'))
    const block: TouchBlock = { regionId: region.id, lengthBytes }
    for (const worker of this.#workers) worker.postMessage(block)
    await Promise.all(ready)
  }

  begin(): void {
    this.#signal(Phase.touch)
  }

  /** @returns the number of touches of this block */
  async end(): Promise<number> {
    const results = this.#workers.map((worker) => once(worker, 'message') as Promise<[number]>)
    this.#signal(Phase.end)
    const touches = await Promise.all(results)
    return touches.reduce((sum, [count]) => sum + count, 0)
  }
}

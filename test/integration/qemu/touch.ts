/** Threads that touch memory at random, as vCPUs do. */
import { once } from 'node:events'
import { Worker } from 'node:worker_threads'
import type { MachineBlock } from '../../../src/migration/machine.js'
import { cleanups } from '../../support/cleanup.js'

const TOUCHERS = 3

export const Phase = { wait: 0, touch: 1, end: 2 } as const

export interface TouchJob {
  regionId: number
  lengthBytes: number
  seed: number
  /** An Int32, see {@link Phase}. */
  phase: SharedArrayBuffer
}

/** Threads that touch a block from `begin` on. */
export class Touchers {
  readonly #phase = new Int32Array(new SharedArrayBuffer(4))
  readonly #workers: Worker[]

  private constructor(block: MachineBlock) {
    this.#workers = Array.from({ length: TOUCHERS }, (_, index) => {
      const workerData: TouchJob = {
        regionId: block.region.id,
        lengthBytes: block.lengthBytes,
        seed: Date.now() + index * 7919,
        phase: this.#phase.buffer,
      }
      return new Worker(new URL('./touch-worker.js', import.meta.url), { workerData })
    })
  }

  /** Resolves when all threads wait for the signal to begin. */
  static async start(block: MachineBlock): Promise<Touchers> {
    const touchers = new Touchers(block)
    // For a test that failed: closing the destination wakes the threads that are still parked.
    cleanups.add(() => touchers.#stop())
    await Promise.all(touchers.#workers.map((worker) => once(worker, 'message')))
    return touchers
  }

  async #stop(): Promise<void> {
    Atomics.store(this.#phase, 0, Phase.end)
    Atomics.notify(this.#phase, 0)
    await Promise.all(this.#workers.map((worker) => worker.terminate()))
  }

  begin(): void {
    Atomics.store(this.#phase, 0, Phase.touch)
    Atomics.notify(this.#phase, 0)
  }

  /** @returns the number of touches */
  async end(): Promise<number> {
    const results = this.#workers.map((worker) => once(worker, 'message') as Promise<[number]>)
    Atomics.store(this.#phase, 0, Phase.end)
    const touches = await Promise.all(results)
    return touches.reduce((sum, [count]) => sum + count, 0)
  }
}

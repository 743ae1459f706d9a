/** Threads that touch missing pages, and the resulting events. */
import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import { Worker } from 'node:worker_threads'
import { EVENT_STRIDE, UffdEvent, Userfaultfd } from '../../src/kernel/index.js'
import type { UserfaultfdOptions, MemoryRegion } from '../../src/kernel/index.js'
import { cleanups } from './cleanup.js'

export interface ParkJob {
  regionId: number
  /** `kernel` is a read(2) into the range. */
  action: 'read' | 'write' | 'kernel' | 'populate' | 'discard'
  offset: number
  length: number
}

/** A thread that does `action` to the range. */
export class Parked {
  readonly worker: Worker
  /** `done`, or the code of the error with which it ended. */
  readonly result: Promise<string>
  readonly #begins: Promise<unknown>
  #settled = false

  constructor(region: MemoryRegion, action: ParkJob['action'], offset: number, length = 1) {
    const workerData: ParkJob = { regionId: region.id, action, offset, length }
    this.worker = new Worker(new URL('./park-worker.js', import.meta.url), { workerData })
    this.#begins = once(this.worker, 'message')
    this.result = new Promise((resolve, reject) => {
      this.worker.on('message', (message: string) => {
        if (message === 'begin') return
        this.#settled = true
        resolve(message)
      })
      this.worker.once('error', reject)
    })
  }

  /** Whether it still has not ended after a time that is long compared with any wake-up. */
  async sleeps(): Promise<boolean> {
    await this.#begins
    await sleep(60)
    return !this.#settled
  }
}

export interface Fault {
  flags: number
  address: number
  threadId: number
}

/** Opens a userfaultfd and closes it after the test, which wakes the threads that still sleep. */
export function openUffd(options?: UserfaultfdOptions): Userfaultfd {
  const uffd = Userfaultfd.open(options)
  cleanups.add(() => {
    uffd.close()
  })
  return uffd
}

/** The first `count` events, in the form [type, a, b, c]. */
export async function nextEvents(uffd: Userfaultfd, count: number): Promise<number[][]> {
  const events: number[][] = []
  await new Promise<void>((resolve) => {
    const stop = uffd.watch((batch) => {
      for (let i = 0; i < batch; i += 1) {
        events.push([...uffd.events.subarray(i * EVENT_STRIDE, (i + 1) * EVENT_STRIDE)])
      }
      if (events.length < count) return
      stop()
      resolve()
    })
  })
  return events
}

/** The next `count` page faults; any other event is an error. */
export async function nextFaults(uffd: Userfaultfd, count = 1): Promise<Fault[]> {
  return (await nextEvents(uffd, count)).map(([type, flags = 0, address = 0, threadId = 0]) => {
    if (type !== UffdEvent.PAGEFAULT) throw new Error(`event ${String(type)} is not a page fault`)
    return { flags, address, threadId }
  })
}

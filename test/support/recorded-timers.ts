/** Timers that end only when the test says so. */
import { cleanups } from './cleanup.js'

interface Timer {
  readonly delayMs: number
  readonly run: () => void
}

/** Replaces `setTimeout` and `clearTimeout` on this thread until the test ends. */
export class RecordedTimers {
  /** By what `setTimeout` has returned. */
  readonly #pending = new Map<object, Timer>()

  constructor() {
    const { setTimeout, clearTimeout } = globalThis
    const start = (run: () => void, delayMs = 0): object => {
      const handle = { unref: () => handle }
      this.#pending.set(handle, { delayMs, run })
      return handle
    }
    Object.assign(globalThis, {
      setTimeout: start,
      clearTimeout: (handle: object) => this.#pending.delete(handle),
    })
    cleanups.add(() => Object.assign(globalThis, { setTimeout, clearTimeout }))
  }

  /** Delays of the pending timers, in the order in which they were made. */
  get delaysMs(): number[] {
    return [...this.#pending.values()].map(({ delayMs }) => delayMs)
  }

  /** Ends the oldest pending timer. */
  fire(): void {
    const [oldest] = this.#pending
    if (oldest === undefined) throw new Error('no timer is pending')
    const [handle, { run }] = oldest
    this.#pending.delete(handle)
    run()
  }
}

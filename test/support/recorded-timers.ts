/** Timers that end only when the test says so. */
import { cleanups } from './cleanup.js'

interface Timer {
  readonly delayMs: number
  readonly run: () => void
}

/** Replaces `setTimeout` and `clearTimeout` on this thread until the test ends. */
export class RecordedTimers {
  readonly #pending = new Map<number, Timer>()
  #made = 0

  constructor() {
    const { setTimeout, clearTimeout } = globalThis
    const start = (run: () => void, delayMs = 0): number => {
      this.#made += 1
      this.#pending.set(this.#made, { delayMs, run })
      return this.#made
    }
    Object.assign(globalThis, {
      setTimeout: start,
      clearTimeout: (timer: number) => this.#pending.delete(timer),
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
    const [timer, { run }] = oldest
    this.#pending.delete(timer)
    run()
  }
}

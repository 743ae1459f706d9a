/** A clock that only the test moves, and a signal whose waits move it. */
import { Signal } from '../../src/source/signal.js'
import { cleanups } from './cleanup.js'

/** Replaces `performance.now()` on this thread until the test ends. */
export class Clock {
  ms = 1000

  constructor() {
    performance.now = () => this.ms
    cleanups.add(() => Reflect.deleteProperty(performance, 'now'))
  }
}

/** A wait with a timeout ends at once: by a notification from `onWait`, or by the timeout. */
export class ClockSignal extends Signal {
  /** Timeouts of the waits, in order. */
  readonly timeoutsMs: number[] = []
  readonly #clock: Clock
  readonly #onWait: (timeoutMs: number) => void
  #notified = 0

  /** @param onWait - called at the begin of each wait with a timeout */
  constructor(clock: Clock, onWait: (timeoutMs: number) => void = () => undefined) {
    super()
    this.#clock = clock
    this.#onWait = onWait
  }

  override notify(): void {
    this.#notified += 1
    super.notify()
  }

  override async wait(timeoutMs?: number): Promise<void> {
    if (timeoutMs === undefined) {
      await super.wait()
      return
    }
    const before = this.#notified
    this.timeoutsMs.push(timeoutMs)
    this.#onWait(timeoutMs)
    if (this.#notified === before) this.#clock.ms += timeoutMs
    await Promise.resolve()
  }
}

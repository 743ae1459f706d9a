/**
 * Handles the signals that ask a command to end; nothing else in src/cli does. The first signal
 * calls the command's handler, or interrupts the command; the next one always interrupts it. A
 * signal that arrives while an interrupted command cleans up has the kernel's default effect.
 */
import { constants } from 'node:os'

const endSignals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const
export type EndSignal = (typeof endSignals)[number]

/** A signal has interrupted a command. */
export class Interrupted extends Error {
  constructor(signal: EndSignal) {
    super(`ended by ${signal}`)
  }
}

export class Signals {
  /** Rejects with {@link Interrupted} when the command must end at once. */
  readonly interrupted: Promise<never>
  #interrupt: (reason: Interrupted) => void = () => undefined
  #received: EndSignal | undefined
  #interruptedBy: EndSignal | undefined
  #onFirst: (() => void) | undefined
  #isArmed = false

  constructor() {
    this.interrupted = new Promise<never>((_, reject) => {
      this.#interrupt = reject
    })
    this.interrupted.catch(() => undefined)
  }

  /** The first signal received. */
  get received(): EndSignal | undefined {
    return this.#received
  }

  /**
   * 128 + the number of the signal that interrupted the command, or of the first one; undefined
   * without a signal.
   */
  get status(): number | undefined {
    const signal = this.#interruptedBy ?? this.#received
    return signal === undefined ? undefined : 128 + constants.signals[signal]
  }

  /** Sets the handler of the first signal, which then does not interrupt. */
  onFirst(act: () => void): void {
    this.#onFirst = act
  }

  arm(): void {
    if (this.#isArmed) return
    this.#isArmed = true
    for (const signal of endSignals) process.on(signal, this.#handle)
  }

  /** Restores the kernel's default: the next signal ends the process. */
  disarm(): void {
    this.#isArmed = false
    for (const signal of endSignals) process.off(signal, this.#handle)
  }

  readonly #handle = (signal: EndSignal): void => {
    const isFirst = this.#received === undefined
    this.#received ??= signal
    if (isFirst && this.#onFirst !== undefined) {
      this.#onFirst()
      return
    }
    if (this.#interruptedBy !== undefined) {
      this.disarm()
      process.kill(process.pid, signal)
      return
    }
    this.#interruptedBy = signal
    this.#interrupt(new Interrupted(signal))
  }
}

/**
 * The signals that ask a command to end: nothing else in src/cli handles them. The first one calls
 * what the command has set for it, or interrupts the command; the next one always interrupts; one
 * that arrives while an interrupted command cleans up has the kernel's default effect.
 */
import { constants } from 'node:os'

const endSignals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const
export type EndSignal = (typeof endSignals)[number]

/** A command was left by a signal. */
export class Interrupted extends Error {
  constructor(signal: EndSignal) {
    super(`ended by ${signal}`)
  }
}

export class Signals {
  /** Rejects with {@link Interrupted} when the command must end without more ado. */
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

  /** The first one that came. */
  get received(): EndSignal | undefined {
    return this.#received
  }

  /** 128 + the number of the signal that interrupted the command, or of the first one; undefined without. */
  get status(): number | undefined {
    const signal = this.#interruptedBy ?? this.#received
    return signal === undefined ? undefined : 128 + constants.signals[signal]
  }

  /** What the first signal does from now on, in place of an interruption. */
  onFirst(act: () => void): void {
    this.#onFirst = act
  }

  arm(): void {
    if (this.#isArmed) return
    this.#isArmed = true
    for (const signal of endSignals) process.on(signal, this.#handle)
  }

  /** Gives the signals back to the kernel, which ends the process at the next one. */
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

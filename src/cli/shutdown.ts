/**
 * Decides when a guest process ends: by `quit`, by a signal, or at the end of its monitor's input.
 */
import { errorToRecord } from '../errors.js'
import { isAtRest, isInPostcopy } from '../migration/index.js'
import type { Monitor, QuitReason } from '../monitor/index.js'
import type { Signals } from './signals.js'

/**
 * Resolves when the process may end. If a guest in postcopy still needs pages, a signal prints that
 * and waits for them; a second signal ends the process at once.
 */
export class Shutdown {
  readonly requested: Promise<QuitReason>
  readonly #monitor: Monitor
  readonly #log: (text: string) => void
  readonly #signals: Signals
  readonly #follow = (): void => {
    this.#arm()
    this.#goOn()
  }
  #asked = false
  #inputEnded = false

  constructor(monitor: Monitor, signals: Signals, log: (text: string) => void) {
    this.#monitor = monitor
    this.#signals = signals
    this.#log = log
    // Delayed, so that the command that asked for it is answered first.
    this.requested = new Promise((resolve) =>
      monitor.once('quit', (reason) => setImmediate(resolve, reason)),
    )
    monitor.on('migration', this.#follow)
    signals.onFirst(() => this.#quit())
    signals.interrupted.catch(() => monitor.quit({ force: true, reason: 'signal' }))
    this.#arm()
  }

  /** Call when no client can give commands any more. */
  inputEnded(): void {
    this.#inputEnded = true
    this.#goOn()
  }

  /** Stops following the migration; the signals stay armed. */
  close(): void {
    this.#monitor.off('migration', this.#follow)
    this.#signals.arm()
  }

  /**
   * While devices load in postcopy, this thread may be parked on a page and could not run a
   * handler. Only the signal's default action works then, which ends the process.
   */
  #arm(): void {
    const { destination, presence } = this.#monitor
    const mayPark =
      presence === 'awaited' && destination !== undefined && isInPostcopy(destination.state)
    if (mayPark) this.#signals.disarm()
    else this.#signals.arm()
  }

  #quit(): void {
    this.#asked = true
    try {
      this.#monitor.quit({ reason: 'signal' })
    } catch (error) {
      this.#log(
        `${errorToRecord(error).message}; this process ends when they have been received, or at a second signal`,
      )
    }
  }

  /** Ends the process if that was requested and no pages are owed any more. */
  #goOn(): void {
    if (!this.#asked && !this.#inputEnded) return
    const { source, destination } = this.#monitor
    const isBusy = [source, destination].some(
      (migration) =>
        migration !== undefined && isInPostcopy(migration.state) && !isAtRest(migration.state),
    )
    if (isBusy) return
    const isPaused = [source, destination].some(
      (migration) => migration?.state === 'postcopy-paused',
    )
    // Paused pages are useful only while a client can still give commands.
    if (isPaused && !this.#inputEnded) return
    this.#monitor.quit({ force: true, reason: this.#asked ? 'signal' : 'done' })
  }
}

/**
 * Automatic recovery (capability `x-auto-recover`): tries again until it succeeds, and doubles the
 * delay after each try. A migration that was paused by command stays paused.
 */
import { PostcopyError } from '../errors.js'
import type { Parameters } from './options.js'

export interface AutoRecoveryOptions {
  /** The current parameters; they may change. */
  parameters(): Readonly<Parameters>
  /** Begins to recover. A failure leads back to `postcopy-paused`, and so to the next try. */
  recover(): Promise<unknown>
}

export class AutoRecovery {
  readonly #options: AutoRecoveryOptions
  #attempts = 0
  #timer: NodeJS.Timeout | undefined

  constructor(options: AutoRecoveryOptions) {
    this.#options = options
  }

  /** Call when the migration has paused. `error`: the reason. */
  paused(error: PostcopyError | undefined): void {
    this.stop()
    if (error?.code === 'ERR_CONNECTION_PAUSED') return
    const { 'x-recover-delay': first, 'x-recover-delay-max': most } = this.#options.parameters()
    const delayMs = Math.min(most, first * 2 ** Math.min(this.#attempts, 30))
    this.#attempts += 1
    this.#timer = setTimeout(() => {
      this.#options.recover().catch((error: unknown) => {
        // A credential file that is being replaced is complete at the next try. Every other failure
        // was announced with the state, or another recovery has already begun.
        if (error instanceof PostcopyError && error.code === 'ERR_TLS_CREDENTIALS') {
          this.paused(error)
        }
      })
    }, delayMs)
  }

  /** The connection works again: the next failure counts as the first. */
  recovered(): void {
    this.stop()
    this.#attempts = 0
  }

  stop(): void {
    clearTimeout(this.#timer)
  }
}

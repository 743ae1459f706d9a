/**
 * Recovery without anybody at hand (capability `x-auto-recover`): tries again and again, and
 * waits longer each time. What was paused on purpose stays so.
 */
import { PostcopyError } from '../errors.js'
import type { Parameters } from './options.js'

export interface AutoRecoveryOptions {
  /** As they are now; they may change. */
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

  /** The migration has paused: `error` says why. */
  paused(error: PostcopyError | undefined): void {
    this.stop()
    if (error?.code === 'ERR_CONNECTION_PAUSED') return
    const { 'x-recover-delay': first, 'x-recover-delay-max': most } = this.#options.parameters()
    const delayMs = Math.min(most, first * 2 ** Math.min(this.#attempts, 30))
    this.#attempts += 1
    this.#timer = setTimeout(() => {
      this.#options.recover().catch((error: unknown) => {
        // Files that are being replaced are good again at the next try. Of what else went wrong the
        // state has said why; or somebody else was first.
        if (error instanceof PostcopyError && error.code === 'ERR_TLS_CREDENTIALS') {
          this.paused(error)
        }
      })
    }, delayMs)
  }

  /** The connection is whole again: the next break is a first one. */
  recovered(): void {
    this.stop()
    this.#attempts = 0
  }

  stop(): void {
    clearTimeout(this.#timer)
  }
}

/** Stops the guest for a migration, and starts it again if it stays here. */
import { MachineError, type StateError } from '../errors.js'
import { awaitHook, callHook, checkSaved, type MigratableMachine } from '../migration/index.js'
import type { SavedDevices } from './protocol.js'

export interface GuestControlHost {
  /**
   * The guest was stopped, or started again. `error`: the start failed, and it stays here stopped.
   */
  changed(error?: MachineError): void
  saved(devices: SavedDevices): void
  failed(error: unknown): void
  /** @returns why it cannot go on: the guest runs although it was stopped */
  startedMeanwhile(): StateError
}

export class GuestControl {
  readonly #machine: MigratableMachine
  readonly #host: GuestControlHost
  /** `was running`: the migration has stopped the guest, and starts it again if it stays here. */
  #stop: 'not asked' | 'stopping' | 'was running' | 'was stopped' = 'not asked'
  /** The guest stays here, but is still being stopped. */
  #resumeWhenStopped = false

  constructor(machine: MigratableMachine, host: GuestControlHost) {
    this.#machine = machine
    this.#host = host
  }

  /** Stops the guest and saves its devices. */
  async stop(): Promise<void> {
    let wasRunning = false
    this.#stop = 'stopping'
    try {
      wasRunning = this.#isRunning()
      await awaitHook('stop', () => this.#machine.stop())
      this.#stop = wasRunning ? 'was running' : 'was stopped'
      this.#host.changed()
      // Started by its owner, or by an earlier migration that failed while it was stopping the
      // guest.
      if (this.#isRunning()) throw this.#host.startedMeanwhile()
      this.#host.saved(checkSaved(callHook('saveDevices', () => this.#machine.saveDevices())))
    } catch (error) {
      this.#stop = wasRunning ? 'was running' : 'was stopped'
      this.#host.failed(error)
    }
    if (this.#resumeWhenStopped) this.resume()
  }

  /**
   * Starts the guest again if the migration has stopped it. If it is still being stopped, starts it
   * after that.
   */
  resume(): void {
    this.#resumeWhenStopped = this.#stop === 'stopping'
    if (this.#stop === 'stopping') return
    const error = this.#stop === 'was running' ? this.#start() : undefined
    this.#stop = 'not asked'
    this.#host.changed(error)
  }

  #isRunning(): boolean {
    return callHook('running', () => this.#machine.running)
  }

  #start(): MachineError | undefined {
    try {
      callHook('start', () => this.#machine.start())
      return undefined
    } catch (error) {
      if (!(error instanceof MachineError)) throw error
      return error
    }
  }
}

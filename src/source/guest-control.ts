/** Stops the guest for a migration, and starts it again where it stays. */
import { MachineError, type StateError } from '../errors.js'
import { awaitHook, callHook, checkSaved, type MigratableMachine } from '../migration/index.js'
import type { SavedDevices } from './protocol.js'

export interface GuestControlEvents {
  /** Stopped, or started again; `error`: it could not be started, and stays here stopped. */
  changed(error?: MachineError): void
  saved(devices: SavedDevices): void
  failed(error: unknown): void
  /** The guest runs although it was stopped. */
  startedMeanwhile(): StateError
}

export class GuestControl {
  readonly #machine: MigratableMachine
  readonly #events: GuestControlEvents
  /** `was running`: the migration has stopped it, and starts it again if it stays here. */
  #stop: 'not asked' | 'stopping' | 'was running' | 'was stopped' = 'not asked'
  /** The guest stays here, but is still stopping. */
  #resumeWhenStopped = false

  constructor(machine: MigratableMachine, events: GuestControlEvents) {
    this.#machine = machine
    this.#events = events
  }

  /** Stops the guest and saves its devices. */
  async stop(): Promise<void> {
    let wasRunning = false
    this.#stop = 'stopping'
    try {
      wasRunning = this.#isRunning()
      await awaitHook('stop', () => this.#machine.stop())
      this.#stop = wasRunning ? 'was running' : 'was stopped'
      this.#events.changed()
      // By its owner, or by a migration before this one that was still stopping it when it failed.
      if (this.#isRunning()) throw this.#events.startedMeanwhile()
      this.#events.saved(checkSaved(callHook('saveDevices', () => this.#machine.saveDevices())))
    } catch (error) {
      this.#stop = wasRunning ? 'was running' : 'was stopped'
      this.#events.failed(error)
    }
    if (this.#resumeWhenStopped) this.resume()
  }

  /** The guest stays here: starts it again if the migration has stopped it, or when it has. */
  resume(): void {
    this.#resumeWhenStopped = this.#stop === 'stopping'
    if (this.#stop === 'stopping') return
    const error = this.#stop === 'was running' ? this.#start() : undefined
    this.#stop = 'not asked'
    this.#events.changed(error)
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

import type { ErrorRecord } from '../errors.js'
import { AutoRecovery } from './auto-recovery.js'
import { refuseRecover } from './migration.js'
import { MigrationEnd, type MigrationEndOptions } from './migration-end.js'
import { type Capabilities, type Parameters, resolveOptions } from './options.js'
import { type MigrationState, isFinal } from './states.js'
import type { WorkerThread } from './worker-thread.js'

export interface RecoverableEndOptions extends MigrationEndOptions {
  readonly capabilities: Readonly<Capabilities>
}

/** An end that has a machine, and can continue a paused migration in another worker. */
export abstract class RecoverableEnd<Request, Notice> extends MigrationEnd<Request, Notice> {
  readonly capabilities: Readonly<Capabilities>
  /** `asked`: told to recover. `begun`: the new worker has not announced a state yet. */
  #recovering: false | 'asked' | 'begun' = false
  #disown: () => void = () => undefined
  readonly #autoRecovery = new AutoRecovery({
    parameters: () => this.parameters,
    recover: () => this.recover(),
  })

  protected constructor({ capabilities, ...rest }: RecoverableEndOptions) {
    super(rest)
    this.capabilities = capabilities
  }

  override get parameters(): Readonly<Parameters> {
    return super.parameters
  }

  protected override set parameters(parameters: Parameters) {
    super.parameters = parameters
  }

  /** Changes parameters. Those of connections apply to the next connection. */
  setParameters(parameters: Partial<Parameters>): void {
    const resolved = resolveOptions({ parameters: { ...this.parameters, ...parameters } })
    this.parameters = resolved.parameters
  }

  /** Continues a migration that is `postcopy-paused`. */
  abstract recover(uri?: string): Promise<unknown>

  /** Starts the first worker. @param disown - releases the machine for another migration */
  protected begin(start: () => WorkerThread<Request, Notice>, disown: () => void): void {
    this.#disown = disown
    try {
      this.setWorker(start())
    } catch (error) {
      disown()
      throw error
    }
  }

  /** @throws StateError `ERR_STATE_RECOVER` if there is nothing to recover; `ERR_CLOSED`, … */
  protected checkRecover(): void {
    this.refuseEnded()
    refuseRecover(this.state, this.#recovering !== false)
  }

  /** Starts the worker of a recovery, after the previous worker has ended. */
  protected async restart(start: () => WorkerThread<Request, Notice>): Promise<void> {
    this.#recovering = 'asked'
    this.#autoRecovery.stop()
    await this.worker?.ended
    this.refuseEnded()
    this.#recovering = 'begun'
    this.setWorker(start())
  }

  /** Told to recover, and no state was announced since then. */
  protected get isRecovering(): boolean {
    return this.#recovering !== false
  }

  protected override get isWorkerLost(): boolean {
    return super.isWorkerLost || this.#recovering === 'begun'
  }

  protected disown(): void {
    this.#disown()
  }

  protected stopAutoRecovery(): void {
    this.#autoRecovery.stop()
  }

  /** The final state after which this migration keeps the machine. */
  protected readonly keepsMachineIn: MigrationState | undefined = undefined

  /** Announces a state. */
  protected enter(state: MigrationState, error?: ErrorRecord): void {
    this.#recovering = false
    if (isFinal(state) && state !== this.keepsMachineIn) this.#disown()
    this.setState(state, error)
    if (state === 'postcopy-active') this.#autoRecovery.recovered()
    if (state !== 'postcopy-paused' || !this.capabilities['x-auto-recover']) return
    if (this.endedByOwner === undefined) this.#autoRecovery.paused(this.error)
  }
}

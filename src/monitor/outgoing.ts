/** The outgoing side: one migration at a time, with the spill of what it owes. */
import { StateError } from '../errors.js'
import {
  type Capabilities,
  isAtRest,
  isFinal,
  type MigratableMachine,
  type Parameters,
  refuseRecover,
} from '../migration/index.js'
import { Spill, type SpillEnd } from '../park/index.js'
import { Source } from '../source/index.js'

export interface OutgoingHost {
  /** A migration has begun. */
  started(source: Source): void
  /** What a postcopy owes is on disk, or could not be written. */
  spilled(end: SpillEnd): void
}

interface OutgoingOptions {
  readonly uri: string
  readonly capabilities: Readonly<Capabilities>
  readonly parameters: Readonly<Parameters>
  /** Where a postcopy writes what it owes: DIR, see {@link Spill}. */
  readonly spill: string | undefined
  /** As in `TrustOptions`, for `spill`. */
  readonly allowForeignDirectory: boolean
}

export class Outgoing {
  readonly #machine: MigratableMachine
  readonly #host: OutgoingHost
  #source: Source | undefined
  #spill: Spill | undefined
  #spillEnd: SpillEnd | undefined

  constructor(machine: MigratableMachine, host: OutgoingHost) {
    this.#machine = machine
    this.#host = host
  }

  get source(): Source | undefined {
    return this.#source
  }

  /**
   * The result of the last migration's spill; undefined before it is known, and without a spill.
   */
  get spillEnd(): SpillEnd | undefined {
    return this.#spillEnd
  }

  /** @throws PostcopyError `ERR_INVALID_URI`, and as {@link Spill.checkFree} */
  migrate(options: OutgoingOptions): void {
    const { spill, allowForeignDirectory, ...rest } = options
    const trust = { allowForeignDirectory }
    if (spill !== undefined) Spill.checkFree(spill, trust)
    const source = Source.migrate(this.#machine, rest)
    this.#source = source
    this.#host.started(source)
    this.#spill = spill === undefined ? undefined : Spill.follow(source, spill, trust)
    this.#spillEnd = undefined
    void this.#spill?.written.then((end) => {
      if (this.#source === source) this.#spillEnd = end
      this.#host.spilled(end)
    })
  }

  /** Applies to a migration that is not over. */
  setParameters(parameters: Partial<Parameters>): void {
    if (this.#source !== undefined && !isFinal(this.#source.state)) {
      this.#source.setParameters(parameters)
    }
  }

  /** Resolves when the migration is over, or paused until a command. */
  async end(): Promise<void> {
    const source = this.#source
    if (source === undefined || isAtRest(source.state)) return
    await new Promise<void>((resolve) => {
      source.on('state', (state) => {
        if (isAtRest(state)) resolve()
      })
    })
  }

  /**
   * Switches to postcopy. Does nothing when the migration is over.
   *
   * @param isPostcopyOn - the capability `postcopy-ram`, for the error if there is no migration
   * @throws StateError if the capability is off, or no migration was started
   */
  startPostcopy(isPostcopyOn: boolean): void {
    if (this.#source !== undefined) {
      this.#source.startPostcopy()
    } else if (isPostcopyOn) {
      throw new StateError(
        'ERR_STATE_NO_MIGRATION',
        'no migration is running: start one with migrate -d URI first',
        'none',
      )
    } else {
      throw new StateError(
        'ERR_STATE_POSTCOPY_OFF',
        'postcopy is not enabled: set the capability postcopy-ram on both ends, then migrate',
        'none',
      )
    }
  }

  /** @throws StateError unless it is `postcopy-paused`; PostcopyError `ERR_INVALID_URI` */
  async recover(uri: string): Promise<void> {
    const source = this.#source
    if (source === undefined) {
      refuseRecover('none')
      return
    }
    await source.recover(uri)
  }

  /** Whether {@link takeBack} can take the guest back. */
  get canTakeBack(): boolean {
    const state = this.#source?.state
    return state === 'completed' || state === 'postcopy-paused'
  }

  /**
   * Takes the guest back from a migration that is complete or paused, and forgets the migration.
   *
   * @param start - starts the guest, before the migration is closed
   */
  takeBack(start: () => void): void {
    const source = this.#source
    source?.takeBack()
    start()
    this.#source = undefined
    void source?.close() // its automatic recovery must not connect again
    void this.#spill?.close()
  }

  async close(): Promise<void> {
    await this.#source?.close()
    await this.#spill?.close()
  }
}

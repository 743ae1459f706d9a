/** Migration states by QEMU's names, and which may follow which. docs/safety.md says who runs the guest. */
import { StateError } from '../errors.js'

/**
 * `none → setup → active → device → completed`, or with postcopy
 * `… device → postcopy-device → postcopy-active → completed`.
 *
 * `device`: the guest is stopped, its state is on its way. `postcopy-device`: the package is sent,
 * its last ping not yet answered. A destination goes `active → postcopy-device` at LISTEN and
 * `postcopy-active` at RUN. A broken connection after the package leads to `postcopy-paused`,
 * anything that breaks before it to `failed`.
 *
 * Recovery: `postcopy-paused → postcopy-recover-setup` (connects, or listens) `→ postcopy-recover`
 * (both ends tell what they have) `→ postcopy-active`; what breaks leads back to `postcopy-paused`.
 * A source that takes the place of one that is gone begins there.
 */
export type MigrationState =
  | 'none'
  | 'setup'
  | 'active'
  | 'device'
  | 'postcopy-device'
  | 'postcopy-active'
  | 'postcopy-paused'
  | 'postcopy-recover-setup'
  | 'postcopy-recover'
  | 'completed'
  | 'failed'
  | 'cancelling'
  | 'cancelled'

export const successors: Readonly<Record<MigrationState, readonly MigrationState[]>> = {
  none: ['setup', 'failed', 'postcopy-recover-setup', 'postcopy-paused'],
  setup: ['active', 'failed', 'cancelling'],
  active: ['device', 'postcopy-device', 'completed', 'failed', 'cancelling'],
  device: ['postcopy-device', 'completed', 'failed', 'cancelling'],
  'postcopy-device': ['postcopy-active', 'postcopy-paused', 'failed'],
  'postcopy-active': ['postcopy-paused', 'completed'],
  'postcopy-paused': ['postcopy-recover-setup'],
  'postcopy-recover-setup': ['postcopy-recover', 'postcopy-paused'],
  'postcopy-recover': ['postcopy-active', 'postcopy-paused'],
  completed: [],
  failed: [],
  cancelling: ['cancelled', 'failed'],
  cancelled: [],
}

/** The migration is over. */
export function isFinal(state: MigrationState): boolean {
  return successors[state].length === 0
}

/** Nothing more happens by itself: it is over, or paused until somebody recovers it. */
export function isAtRest(state: MigrationState): boolean {
  return isFinal(state) || state === 'postcopy-paused'
}

/** Postcopy goes on, or will once the connection is whole again: pages are owed. */
export function isInPostcopy(state: MigrationState): boolean {
  return state.startsWith('postcopy-')
}

/** Keeps one migration's state and refuses a step that must not happen. */
export class StateMachine {
  #state: MigrationState
  readonly #onChange: (state: MigrationState, error: unknown) => void

  constructor(
    onChange: (state: MigrationState, error: unknown) => void,
    initial: MigrationState = 'none',
  ) {
    this.#onChange = onChange
    this.#state = initial
  }

  get current(): MigrationState {
    return this.#state
  }

  is(...states: readonly MigrationState[]): boolean {
    return states.includes(this.#state)
  }

  /**
   * @param error - why, for the states that are a failure
   * @throws StateError where `next` may not follow the current state
   */
  enter(next: MigrationState, error?: unknown): void {
    const previous = this.#state
    if (!successors[previous].includes(next)) {
      throw new StateError('ERR_STATE_TRANSITION', `cannot become ${next}`, previous)
    }
    this.#state = next
    this.#onChange(next, error)
  }
}

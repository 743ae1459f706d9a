/**
 * State machines as data: which events each phase of an end accepts, what it does, and what
 * follows.
 */
import { PostcopyError, StateError } from '../errors.js'
import type { MigrationState } from './states.js'

/** What an event does in one phase. */
export type Cell<Phase extends string, Action extends string> =
  | {
      /** The next phase; may be the same one. */
      readonly to: Phase
      /** Done before it is entered, in order. An action that throws keeps the phase. */
      readonly do?: readonly Action[]
      /** Done after it was entered and announced. */
      readonly then?: readonly Action[]
    }
  | {
      /** Why the event is rejected, if "EVENT has no place here" does not explain enough. */
      readonly error: string
    }

export interface PhaseRow<Phase extends string, Event extends string, Action extends string> {
  /** The migration state that users see in this phase. */
  readonly state: MigrationState
  /** Every other event is rejected. */
  readonly on: Readonly<Partial<Record<Event, Cell<Phase, Action>>>>
}

export type PhaseTable<
  Phase extends string,
  Event extends string,
  Action extends string,
> = Readonly<Record<Phase, PhaseRow<Phase, Event, Action>>>

/**
 * Announces a state that differs from the previous one. `error`: the reason, if it is a failure.
 */
export type StateChanged = (state: MigrationState, error: unknown) => void

/** Changes phase only as its table allows. */
export class PhaseMachine<Phase extends string, Event extends string, Action extends string> {
  readonly #table: PhaseTable<Phase, Event, Action>
  readonly #stateChanged: StateChanged
  #phase: Phase

  constructor(table: PhaseTable<Phase, Event, Action>, initial: Phase, stateChanged: StateChanged) {
    this.#table = table
    this.#phase = initial
    this.#stateChanged = stateChanged
  }

  get phase(): Phase {
    return this.#phase
  }

  get state(): MigrationState {
    return this.#table[this.#phase].state
  }

  is(...phases: readonly Phase[]): boolean {
    return phases.includes(this.#phase)
  }

  /** Whether the phase accepts the event. */
  accepts(event: Event): boolean {
    const cell = this.#table[this.#phase].on[event]
    return cell !== undefined && !('error' in cell)
  }

  /**
   * @throws StateError if the phase does not accept the event: `ERR_STATE_COMMAND` for an element of the
   *   stream, which has an upper-case name, `ERR_STATE_TRANSITION` for an event of this program
   */
  check(event: Event): void {
    if (!this.accepts(event)) this.#refuse(event)
  }

  /**
   * @param actions - each action that the table names for the event
   * @param error - the reason, if the next phase is a failure
   * @throws StateError as {@link check}, and `ERR_STATE_TRANSITION` if an action has changed the phase
   *   meanwhile (a failure): the event then has no effect; also what an action throws
   */
  take(
    event: Event,
    actions?: Readonly<Partial<Record<Action, () => void>>>,
    error?: unknown,
  ): void {
    const from = this.#phase
    const cell = this.#table[from].on[event]
    if (cell === undefined || 'error' in cell) this.#refuse(event)
    const perform = (action: Action): void => {
      const act = actions?.[action]
      if (act === undefined) {
        throw new PostcopyError('ERR_INTERNAL', `${event} in ${from} lacks ${action}`)
      }
      act()
    }
    for (const action of cell.do ?? []) {
      perform(action)
      if (this.#phase !== from) throw notPossible(event, this.#phase)
    }
    const { state } = this
    this.#phase = cell.to
    // A failure is announced also if the state is the one before: paused again, for another reason.
    const isNews = this.state !== state || (error !== undefined && cell.to !== from)
    if (isNews) this.#stateChanged(this.state, error)
    cell.then?.forEach(perform)
  }

  #refuse(event: Event): never {
    const phase = this.#phase
    if (event !== event.toUpperCase()) throw notPossible(event, phase)
    const cell = this.#table[phase].on[event]
    const what = cell !== undefined && 'error' in cell ? cell.error : event
    throw new StateError('ERR_STATE_COMMAND', `${what} is not valid in this phase`, phase)
  }
}

function notPossible(event: string, phase: string): StateError {
  return new StateError('ERR_STATE_TRANSITION', `"${event}" is not possible now`, phase)
}

/**
 * State machines as data: which events each phase of an end accepts, what it does, and what
 * follows.
 */
import { PostcopyError, StateError } from '../errors.js'
import type { MigrationState } from './states.js'

/** What an accepted event does in one phase. */
export interface Step<Phase extends string, Action extends string> {
  /** The next phase; may be the same one. */
  readonly to: Phase
  /** Done before it is entered, in order. An action that throws keeps the phase. */
  readonly do?: readonly Action[]
  /** Done after it was entered and announced. */
  readonly then?: readonly Action[]
}

export type Cell<Phase extends string, Action extends string> =
  | Step<Phase, Action>
  | {
      /** Why the event is rejected, if "EVENT is not valid in this phase" does not explain enough. */
      readonly error: string
    }

/**
 * An element of the stream has an upper-case name, and an event of this program a lower-case one. It
 * decides which error a rejected event gives, see {@link PhaseMachine.check}.
 */
export type EventName = Uppercase<string> | Lowercase<string>

export interface PhaseRow<Phase extends string, Event extends EventName, Action extends string> {
  /** The migration state that users see in this phase. */
  readonly state: MigrationState
  /** Every other event is rejected. */
  readonly on: Readonly<Partial<Record<Event, Cell<Phase, Action>>>>
}

export type PhaseTable<
  Phase extends string,
  Event extends EventName,
  Action extends string,
> = Readonly<Record<Phase, PhaseRow<Phase, Event, Action>>>

/** @returns undefined if the phase rejects the event */
export function stepOf<Phase extends string, Event extends EventName, Action extends string>(
  table: PhaseTable<Phase, Event, Action>,
  phase: Phase,
  event: Event,
): Step<Phase, Action> | undefined {
  const cell = table[phase].on[event]
  return cell === undefined || 'error' in cell ? undefined : cell
}

/**
 * Announces a state that differs from the previous one. `error`: the reason, if it is a failure.
 */
export type StateChanged = (state: MigrationState, error: unknown) => void

/** Changes phase only as its table allows. */
export class PhaseMachine<Phase extends string, Event extends EventName, Action extends string> {
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
    return stepOf(this.#table, this.#phase, event) !== undefined
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
    const step = stepOf(this.#table, from, event)
    if (step === undefined) this.#refuse(event)
    for (const action of step.do ?? []) {
      perform(action, actions, event, from)
      if (this.#phase !== from) throw notPossible(event, this.#phase)
    }
    const { state } = this
    this.#phase = step.to
    // A failure is announced also if the state is the one before: paused again, for another reason.
    const isNews = this.state !== state || (error !== undefined && step.to !== from)
    if (isNews) this.#stateChanged(this.state, error)
    for (const action of step.then ?? []) perform(action, actions, event, from)
  }

  #refuse(event: Event): never {
    const phase = this.#phase
    if (event !== event.toUpperCase()) throw notPossible(event, phase)
    const cell = this.#table[phase].on[event]
    const what = cell !== undefined && 'error' in cell ? cell.error : event
    throw new StateError('ERR_STATE_COMMAND', `${what} is not valid in this phase`, phase)
  }
}

function perform<Action extends string>(
  action: Action,
  actions: Readonly<Partial<Record<Action, () => void>>> | undefined,
  event: string,
  phase: string,
): void {
  const act = actions?.[action]
  if (act === undefined) {
    throw new PostcopyError('ERR_INTERNAL', `${event} in ${phase} lacks ${action}`)
  }
  act()
}

function notPossible(event: string, phase: string): StateError {
  return new StateError('ERR_STATE_TRANSITION', `"${event}" is not possible now`, phase)
}

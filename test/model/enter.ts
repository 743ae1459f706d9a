/** Changes phases only by the tables that the two ends use. */
import {
  type IncomingAction,
  type IncomingEvent,
  incomingPhases,
} from '../../src/destination/phases.js'
import { stepOf } from '../../src/migration/phases.js'
import { type MigrationState, isAtRest, isFinal, successors } from '../../src/migration/states.js'
import { type SourceAction, type SourceEvent, sourcePhases } from '../../src/source/phases.js'
import type { DestinationEnd, Draft, SourceEnd } from './state.js'

/** The effect of an action of the table on the model; none by default. */
type Acts<Action extends string> = Partial<Record<Action, () => void>>

export function sourceAccepts({ phase }: Readonly<SourceEnd>, event: SourceEvent): boolean {
  return stepOf(sourcePhases, phase, event) !== undefined
}

export function destinationAccepts(
  { phase }: Readonly<DestinationEnd>,
  event: IncomingEvent,
): boolean {
  return stepOf(incomingPhases, phase, event) !== undefined
}

/** A worker takes an event, and notifies its main thread of a new state. */
export function takeSource(state: Draft, event: SourceEvent, acts: Acts<SourceAction> = {}): void {
  const { source } = state
  const step = stepOf(sourcePhases, source.phase, event)
  if (step === undefined) {
    state.wrong = `the source takes ${event} in ${source.phase}`
    return
  }
  const all: Acts<SourceAction> = {
    claim: () => {
      if (source.handover === 'postcopy') source.handover = 'claimed'
    },
    ...acts,
  }
  for (const action of step.do ?? []) all[action]?.()
  const before = stateOfSource(source)
  source.phase = step.to
  const after = stateOfSource(source)
  if (after !== before) source.notices = [...source.notices, after]
}

export function takeDestination(
  state: Draft,
  event: IncomingEvent,
  acts: Acts<IncomingAction> = {},
): void {
  const { destination } = state
  const step = stepOf(incomingPhases, destination.phase, event)
  if (step === undefined) {
    state.wrong = `the destination takes ${event} in ${destination.phase}`
    return
  }
  for (const action of step.do ?? []) acts[action]?.()
  const before = stateOfDestination(destination)
  destination.phase = step.to
  const after = stateOfDestination(destination)
  if (after !== before) destination.notices = [...destination.notices, after]
  for (const action of step.then ?? []) acts[action]?.()
}

export function stateOfSource({ phase }: Readonly<SourceEnd>): MigrationState {
  return sourcePhases[phase].state
}

export function stateOfDestination({ phase }: Readonly<DestinationEnd>): MigrationState {
  return incomingPhases[phase].state
}

/** A main thread announces a state; a second pause, for another reason, is not a change. */
export function announce(state: Draft, which: 'source' | 'destination', to: MigrationState): void {
  const end: SourceEnd | DestinationEnd = state[which]
  end.recovering = 'no'
  if (isFinal(end.main)) return
  if (end.main !== to && !successors[end.main].includes(to)) {
    state.wrong = `the ${which}'s main thread goes from ${end.main} to ${to}`
  }
  end.main = to
}

export { isAtRest, isFinal }

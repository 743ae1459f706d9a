/** Steps from state to state, by src/migration/states.ts and by nothing else. */
import { type MigrationState, isAtRest, isFinal, successors } from '../../src/migration/states.js'
import type { DestinationEnd, Draft, SourceEnd } from './state.js'

function check(state: Draft, who: string, from: MigrationState, to: MigrationState): void {
  if (!successors[from].includes(to)) state.wrong = `${who} goes from ${from} to ${to}`
}

/** A worker enters a state and tells its main thread. */
export function enterSource(state: Draft, to: MigrationState): void {
  check(state, 'the source', state.source.state, to)
  state.source.state = to
  if (to === 'postcopy-active' && state.source.handover === 'postcopy') {
    state.source.handover = 'claimed'
  }
  state.source.notices = [...state.source.notices, to]
}

export function enterDestination(state: Draft, to: MigrationState): void {
  check(state, 'the destination', state.destination.state, to)
  state.destination.state = to
  state.destination.notices = [...state.destination.notices, to]
}

/** A main thread announces a state; paused again, for another reason, is no step. */
export function announce(state: Draft, which: 'source' | 'destination', to: MigrationState): void {
  const end: SourceEnd | DestinationEnd = state[which]
  end.recovering = 'no'
  if (isFinal(end.main)) return
  if (end.main !== to) check(state, `the ${which}'s main thread`, end.main, to)
  end.main = to
}

export { isAtRest, isFinal }

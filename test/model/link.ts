/** The connection between the two ends: in order both ways, and cut at any point. */
import type { Draft, ToDestination, ToSource } from './state.js'

export function sendToDestination(state: Draft, message: ToDestination): void {
  if (state.joined) state.destination.inbox = [...state.destination.inbox, message]
}

export function sendToSource(state: Draft, message: ToSource): void {
  if (state.joined) state.source.inbox = [...state.source.inbox, message]
}

/** Nothing more is sent. Messages in flight arrive up to any point, independently at each end. */
export function cut(state: Draft): void {
  if (!state.joined) return
  state.joined = false
  state.source.torn = true
  state.destination.torn = true
}

/** One end closes its socket. Messages that it sent may arrive, or be lost with a reset. */
export function close(state: Draft, which: 'source' | 'destination'): void {
  cut(state)
  const end = state[which]
  end.connected = false
  end.torn = false
  end.inbox = []
  if (which === 'destination') state.destination.urgent = false
}

/** The connection between the two ends: in order both ways, and cut anywhere. */
import type { Draft, ToDestination, ToSource } from './state.js'

export function sendToDestination(state: Draft, message: ToDestination): void {
  if (state.joined) state.destination.inbox = [...state.destination.inbox, message]
}

export function sendToSource(state: Draft, message: ToSource): void {
  if (state.joined) state.source.inbox = [...state.source.inbox, message]
}

/** Nothing more gets through. What is in flight arrives up to any point, at each end for itself. */
export function cut(state: Draft): void {
  if (!state.joined) return
  state.joined = false
  state.source.torn = true
  state.destination.torn = true
}

/** One end lets go of its socket. What it had sent may arrive, or be lost with a reset. */
export function close(state: Draft, which: 'source' | 'destination'): void {
  cut(state)
  const end = state[which]
  end.connected = false
  end.torn = false
  end.inbox = []
  if (which === 'destination') state.destination.urgent = false
}

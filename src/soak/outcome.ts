/** What the states of both ends mean for the guest once nothing moves any more. */
import type { MigrationState } from '../migration/index.js'

/**
 * - `moved`: the destination has all of it
 * - `word lost`: the same, but the source was not told and keeps its copy stopped
 * - `stayed`: it runs at the source
 * - `stopped`: it is whole at the source, which could not know whether it also is elsewhere
 * - `paused`: it runs at the destination as far as its pages reach
 */
export type Outcome = 'moved' | 'word lost' | 'stayed' | 'stopped' | 'paused'

/** A destination's process that was killed before it had the guest. */
export type DestinationState = MigrationState | 'gone'

/** Every pair that may be; any other one is a failure of ours. */
const outcomes: Readonly<Record<string, Outcome>> = {
  'completed, completed': 'moved',
  'postcopy-paused, completed': 'word lost',
  // By itself it looks for the destination for ever.
  'postcopy-recover-setup, completed': 'word lost',
  'postcopy-recover, completed': 'word lost',
  'failed, completed': 'word lost',
  'failed, failed': 'stayed',
  'failed, gone': 'stayed',
  'cancelled, failed': 'stayed',
  'cancelled, gone': 'stayed',
  'postcopy-paused, failed': 'stopped',
  'postcopy-paused, gone': 'stopped',
  'postcopy-paused, postcopy-paused': 'paused',
}

/** Of both ends, and whether vCPUs run there. */
export interface Ends {
  readonly source: MigrationState
  readonly destination: DestinationState
  readonly runsHere: boolean
  readonly runsThere: boolean
}

/** @returns what became of the guest; or in words, what must never be */
export function outcomeOf(ends: Ends): Outcome | { readonly wrong: string } {
  const { source, destination, runsHere, runsThere } = ends
  const states = `source ${source}, destination ${destination}`
  if (runsHere && runsThere) return { wrong: `two guests run: ${states}` }
  const outcome = outcomes[`${source}, ${destination}`]
  if (outcome === undefined) return { wrong: `an end that cannot be: ${states}` }
  // A precopy that broke at its very end: the source cannot know, and does not run it.
  if (outcome === 'stayed' && !runsHere) return 'stopped'
  const where = { moved: runsThere, 'word lost': runsThere, paused: runsThere, stayed: true }
  if (outcome !== 'stopped' && !where[outcome]) return { wrong: `no guest runs: ${states}` }
  if (outcome !== 'stayed' && runsHere) return { wrong: `the source runs it too: ${states}` }
  return outcome
}

/** What the states of both ends mean for the guest once both are at rest. */
import type { MigrationState } from '../migration/index.js'

/**
 * - `moved`: the destination has all of it
 * - `unconfirmed`: the same, but the source has no confirmation and keeps its stopped copy
 * - `stayed`: it runs at the source
 * - `stopped`: it is whole at the source, which cannot know whether the destination runs it too
 * - `paused`: it runs at the destination with the pages that have arrived
 */
export type Outcome = 'moved' | 'unconfirmed' | 'stayed' | 'stopped' | 'paused'

/** `gone`: the process of the destination was killed before it had the guest. */
export type DestinationState = MigrationState | 'gone'

/** Every allowed pair of states; any other pair is a bug. */
const outcomes: Readonly<Record<string, Outcome>> = {
  'completed, completed': 'moved',
  'postcopy-paused, completed': 'unconfirmed',
  // With automatic recovery, the source tries to reconnect for ever.
  'postcopy-recover-setup, completed': 'unconfirmed',
  'postcopy-recover, completed': 'unconfirmed',
  'failed, completed': 'unconfirmed',
  'failed, failed': 'stayed',
  'failed, gone': 'stayed',
  'cancelled, failed': 'stayed',
  'cancelled, gone': 'stayed',
  'postcopy-paused, failed': 'stopped',
  'postcopy-paused, gone': 'stopped',
  'postcopy-paused, postcopy-paused': 'paused',
}

/** The states of both ends, and whether vCPUs run there. */
export interface Ends {
  readonly source: MigrationState
  readonly destination: DestinationState
  readonly runsHere: boolean
  readonly runsThere: boolean
}

/** @returns the outcome for the guest; or in words, what is wrong */
export function outcomeOf(ends: Ends): Outcome | { readonly wrong: string } {
  const { source, destination, runsHere, runsThere } = ends
  const states = `source ${source}, destination ${destination}`
  if (runsHere && runsThere) return { wrong: `two guests run: ${states}` }
  const outcome = outcomes[`${source}, ${destination}`]
  if (outcome === undefined) return { wrong: `impossible states: ${states}` }
  // Precopy broke at its very end: the source cannot know the result, and does not run the guest.
  if (outcome === 'stayed' && !runsHere) return 'stopped'
  const where = { moved: runsThere, unconfirmed: runsThere, paused: runsThere, stayed: true }
  if (outcome !== 'stopped' && !where[outcome]) return { wrong: `no guest runs: ${states}` }
  if (outcome !== 'stayed' && runsHere)
    return { wrong: `the source runs the guest, too: ${states}` }
  return outcome
}

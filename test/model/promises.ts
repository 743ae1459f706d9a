/** Properties that must hold in every reachable state, or stay reachable from it. */
import { locationAtDestination } from '../../src/destination/claim.js'
import type { GuestLocation } from '../../src/migration/guest-location.js'
import { isAtRest } from '../../src/migration/states.js'
import { locationAtSource } from '../../src/source/handover.js'
import type { Rules } from './rules.js'
import { type State } from './state.js'

const atHome = ['none', 'setup', 'active', 'cancelling', 'cancelled', 'failed']

/**
 * The guest runs at the source, or its user may start it there without checking the destination.
 */
export function mayRunAtSource({ source }: State): boolean {
  if (!source.alive) return false
  if (source.guest !== 'stopped') return true
  if (source.isTakenOver) return false
  return atHome.includes(source.main) && !source.unconfirmed
}

/** The guest runs at the destination, is stopped there by its user, or is committed to run. */
export function mayRunAtDestination({ destination }: State): boolean {
  const { alive, guest, load } = destination
  return alive && (guest !== 'no' || load === 'claimed')
}

export function twoCopies(state: State): string {
  return mayRunAtSource(state) && mayRunAtDestination(state) ? 'two copies may run' : ''
}

/** The property that this state violates, except what the user is told; empty if none. */
export function brokenPromise(state: State, rules: Rules): string {
  const { source, destination, wrong } = state
  const two = twoCopies(state)
  if (two !== '') return two
  if (wrong !== '') return `no such step: ${wrong}`
  if (destination.mixed) return 'the guest has pages of another guest'
  const runsHere = source.alive && source.guest !== 'stopped' && !source.taken
  const hasLeft = source.main.startsWith('postcopy-') || source.main === 'completed'
  // The guest has been given back, but the new state is not announced yet.
  if (runsHere && hasLeft && source.handover !== 'none') {
    return `the guest runs at a source that is ${source.main}`
  }
  if (destination.alive && destination.main === 'failed' && mayRunAtDestination(state)) {
    return 'the destination runs the guest and reports that it failed'
  }
  if (destination.alive && destination.main === 'completed') {
    if (!destination.received) return 'the destination completed without every page'
    if (destination.guest === 'no') return 'the destination completed without the guest'
  }
  if (source.alive && source.main === 'completed' && rules.returnPath) {
    if (destination.claim !== 'whole')
      return 'the source completed, but the destination does not have the guest'
  }
  return ''
}

/**
 * A false answer of an end to its user about the location of the guest; empty if both are true.
 */
export function falselyTold(state: State, rules: Rules): string {
  const { source, destination } = state
  const isTaken = destination.claim === 'running' || destination.claim === 'whole'
  const mayBeThere = !destination.alive || isTaken
  switch (source.alive ? toldBySource(state, rules) : 'unknown') {
    case 'here':
      if (!mayRunAtDestination(state)) break
      return 'the source reports that the guest is here, but it may run at the destination'
    case 'elsewhere':
      if (mayBeThere && !mayRunAtSource(state)) break
      return 'the source reports that the guest is elsewhere, but the destination does not have it'
    case 'unknown':
  }
  const isHere = locationAtDestination(destination.claim) === 'here'
  if (destination.alive && isHere !== mayRunAtDestination(state)) {
    return `the destination reports that the guest is ${isHere ? 'here' : 'elsewhere'}, but it is not`
  }
  return ''
}

function toldBySource({ source }: State, { mutant, returnPath }: Rules): GuestLocation {
  const told = locationAtSource(source.handover, returnPath)
  if (told !== 'unknown') return told
  if (mutant === 'the source reports that the guest is here until the destination confirms it') {
    return 'here'
  }
  const isHasty = mutant === 'the source reports that the guest is elsewhere when it was sent'
  return isHasty ? 'elsewhere' : told
}

/** The destination waits for a connection of a source. */
function waitsForSource({ worker, connected, load }: State['destination']): boolean {
  return worker === 'listening' && !connected && load === 'idle'
}

/**
 * A known limit: the worker has died while the main thread was parked on a page of the migration.
 * The process has to be killed.
 */
export function isParkedForGood({ destination }: State, rules: Rules): boolean {
  return rules.workersDie && destination.load === 'needs page' && destination.worker === 'gone'
}

/** States in which the program may take no further step. */
export function mayStandStill({ source, destination }: State): boolean {
  const isSourceDone = !source.alive || isAtRest(source.main)
  const isDestinationDone =
    !destination.alive || isAtRest(destination.main) || waitsForSource(destination)
  return isSourceDone && isDestinationDone
}

/** The process with the only copy has died: no property covers that. */
export function isAcceptedLoss(state: State): boolean {
  const isGone = !state.source.alive || state.source.isTakenOver
  return isGone && !mayRunAtDestination(state)
}

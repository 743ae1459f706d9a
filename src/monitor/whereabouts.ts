/** Where the guest of this process is, and what may be done with it there. */
import type { Destination } from '../destination/destination.js'
import { StateError } from '../errors.js'
import { isFinal, isInPostcopy } from '../migration/states.js'
import type { Source } from '../source/source.js'

/**
 * - `here`: all of it
 * - `awaited`: an incoming migration has to bring it
 * - `arriving`: it runs here, and pages are still at the source
 * - `leaving`: stopped by an outgoing migration, and ours again if that fails
 * - `gone`: the destination has it, or may have it
 */
export type Whereabouts = 'here' | 'awaited' | 'arriving' | 'leaving' | 'gone'

/** QEMU's run states, as far as a guest of ours has them. */
export type RunState = 'running' | 'paused' | 'inmigrate' | 'finish-migrate' | 'postmigrate'

export interface StatusInfo {
  running: boolean
  status: RunState
}

/** @param completed - nothing of the guest is needed here any more */
export function statusOf(
  whereabouts: Whereabouts,
  running: boolean,
  completed: boolean,
): StatusInfo {
  switch (whereabouts) {
    case 'awaited':
      return { running, status: 'inmigrate' }
    case 'leaving':
      return { running, status: 'finish-migrate' }
    case 'gone':
      return { running, status: completed ? 'postmigrate' : 'finish-migrate' }
    case 'here':
    case 'arriving':
      return { running, status: running ? 'running' : 'paused' }
  }
}

export function whereaboutsOf(
  source: Source | undefined,
  destination: Destination | undefined,
  incoming: boolean,
): Whereabouts {
  const state = source?.state
  if (state === 'device') return 'leaving'
  if (state !== undefined && (isInPostcopy(state) || state === 'completed')) return 'gone'
  if (!incoming || destination?.state === 'completed') return 'here'
  // While it is postcopy-device, its devices are loaded: it does not run yet.
  const hasArrived =
    destination !== undefined &&
    isInPostcopy(destination.state) &&
    destination.state !== 'postcopy-device'
  return hasArrived ? 'arriving' : 'awaited'
}

/** @throws StateError unless the guest may be stopped and started here */
export function refuseToRun(
  command: string,
  whereabouts: Whereabouts,
  source: Source | undefined,
): void {
  const refuse = (why: string): never => {
    throw new StateError('ERR_STATE_GUEST', `cannot ${command}: ${why}`, source?.state ?? 'setup')
  }
  switch (whereabouts) {
    case 'here':
    case 'arriving':
      return
    case 'awaited':
      return refuse('the guest has not arrived; it will run as it did at its source')
    case 'leaving':
      return refuse('the migration has stopped the guest, and starts it again here if it fails')
    case 'gone':
      return refuse(whyGone(source))
  }
}

function whyGone(source: Source | undefined): string {
  switch (source?.state) {
    case 'completed':
      return 'the guest runs elsewhere: it has migrated. Only if it does not run there any more, cont -f takes it back'
    case 'postcopy-paused':
      return 'the destination may run the guest, and needs the pages that are here: migrate -r goes on. Only if it has failed, or is lost, cont -f takes the guest back as it was at the switch'
    default:
      return 'the guest runs elsewhere: the destination has it, and needs the pages that are here'
  }
}

/** @throws StateError unless the whole guest is here and nothing moves it */
export function refuseToLeave(whereabouts: Whereabouts, source: Source | undefined): void {
  if (source !== undefined && !isFinal(source.state)) {
    throw new StateError(
      'ERR_STATE_MIGRATING',
      source.state === 'postcopy-paused'
        ? 'a migration is paused, and its destination needs the pages that are here: migrate -r goes on with it'
        : 'a migration is under way: info migrate shows it, migrate_cancel ends it',
      source.state,
    )
  }
  switch (whereabouts) {
    case 'here':
    case 'leaving':
      return
    case 'gone':
      throw new StateError(
        'ERR_STATE_GUEST',
        'cannot migrate: the guest runs elsewhere, it left by the last migration',
        source?.state ?? 'none',
      )
    case 'awaited':
      throw new StateError('ERR_STATE_GUEST', 'cannot migrate: no guest has arrived yet', 'setup')
    case 'arriving':
      throw new StateError(
        'ERR_STATE_GUEST',
        'cannot migrate: pages of the guest are still on their way here',
        'postcopy-active',
      )
  }
}

/** @throws StateError while a migration is under way; waiting for a source is not yet one */
export function refuseWhileMigrating(
  action: string,
  source: Source | undefined,
  destination: Destination | undefined,
): void {
  const isIdle = (migration: Source | Destination | undefined): boolean =>
    migration === undefined || isFinal(migration.state)
  const busy = isIdle(source) ? destination : source
  if (busy === undefined || isIdle(busy) || (busy === destination && busy.state === 'setup')) return
  throw new StateError(
    'ERR_STATE_MIGRATING',
    `cannot ${action} while a migration is under way`,
    busy.state,
  )
}

/** Where the guest of this process is, and which commands are allowed there. */
import type { Destination } from '../destination/index.js'
import { StateError } from '../errors.js'
import { isFinal, isInPostcopy } from '../migration/index.js'
import type { Source } from '../source/index.js'

/**
 * - `here`: completely
 * - `awaited`: an incoming migration is to bring it
 * - `arriving`: it belongs to this process, and pages are still at the source
 * - `leaving`: stopped by an outgoing migration, and back here if that fails
 * - `gone`: the destination has it, or may have it
 */
export type GuestPresence = 'here' | 'awaited' | 'arriving' | 'leaving' | 'gone'

/** The part of a source that decides where a leaving guest is. */
export type SourceStatus = Pick<Source, 'state' | 'guestLocation'>

/** QEMU's run states, as far as our guests use them. */
export type RunState = 'running' | 'paused' | 'inmigrate' | 'finish-migrate' | 'postmigrate'

export interface StatusInfo {
  running: boolean
  status: RunState
}

/** @param completed - nothing of the guest is needed here any more */
export function statusOf(
  presence: GuestPresence,
  running: boolean,
  completed: boolean,
): StatusInfo {
  switch (presence) {
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

export function presenceOf(
  source: SourceStatus | undefined,
  destination: Pick<Destination, 'state' | 'guestLocation'> | undefined,
  incoming: boolean,
): GuestPresence {
  const state = source?.state
  if (state === 'device') return source?.guestLocation === 'here' ? 'leaving' : 'gone'
  if (state !== undefined && (isInPostcopy(state) || state === 'completed')) return 'gone'
  if (!incoming || destination?.state === 'completed') return 'here'
  return destination?.guestLocation === 'here' ? 'arriving' : 'awaited'
}

/** @throws StateError unless the guest may be stopped and started here */
export function refuseToRun(
  command: string,
  presence: GuestPresence,
  source: SourceStatus | undefined,
): void {
  const refuse = (why: string): never => {
    throw new StateError('ERR_STATE_GUEST', `cannot ${command}: ${why}`, source?.state ?? 'setup')
  }
  switch (presence) {
    case 'here':
    case 'arriving':
      return
    case 'awaited':
      return refuse('no guest has been received; it will run or stay stopped as at the source')
    case 'leaving':
      return refuse('the migration has stopped the guest, and resumes it here if it fails')
    case 'gone':
      return refuse(whyGone(source))
  }
}

function whyGone(source: SourceStatus | undefined): string {
  return source?.guestLocation === 'elsewhere' ? whyElsewhere(source) : whyUnknown(source)
}

function whyElsewhere({ state }: SourceStatus): string {
  const where = 'the destination has confirmed that it has the guest, and may have ended since'
  if (state === 'completed') {
    return `${where}. cont -f takes the guest back: give it only if the guest does not run there any more`
  }
  const needs = 'the guest needs the pages that are here'
  if (state !== 'postcopy-paused') return `${where}; ${needs}`
  return `${where}. If it still has the guest, ${needs}: migrate_recover there and migrate -r here continue the migration. cont -f takes the guest back in the state of the switch: give it only if the guest is lost there`
}

function whyUnknown(source: SourceStatus | undefined): string {
  const where =
    'the guest was sent, but the destination has not confirmed that it has it: whether it runs there is not known'
  const lost =
    'cont -f takes the guest back: give it only if the destination has failed or has ended'
  switch (source?.state) {
    case 'completed':
      return `${where}, because there was no return path. Check there (info status). ${lost}`
    case 'postcopy-paused':
      return `${where}. Check there (info status): if it has the guest, migrate_recover there and migrate -r here continue the migration. ${lost}`
    default:
      return `${where}; info migrate shows the progress`
  }
}

/** @throws StateError unless the whole guest is here and no migration is running */
export function refuseToLeave(presence: GuestPresence, source: SourceStatus | undefined): void {
  if (source !== undefined && !isFinal(source.state)) {
    throw new StateError(
      'ERR_STATE_MIGRATING',
      source.state === 'postcopy-paused'
        ? 'a migration is paused, and its destination may need the pages that are here: migrate -r continues it'
        : 'a migration is under way: info migrate shows it, migrate_cancel ends it',
      source.state,
    )
  }
  switch (presence) {
    case 'here':
    case 'leaving':
      return
    case 'gone':
      throw new StateError(
        'ERR_STATE_GUEST',
        `cannot migrate: ${whyGone(source)}`,
        source?.state ?? 'none',
      )
    case 'awaited':
      throw new StateError(
        'ERR_STATE_GUEST',
        'cannot migrate: no guest has been received yet',
        'setup',
      )
    case 'arriving':
      throw new StateError(
        'ERR_STATE_GUEST',
        'cannot migrate: this end has not received all pages of the guest yet',
        'postcopy-active',
      )
  }
}

/** @throws StateError during a migration; waiting for a source does not count as one */
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

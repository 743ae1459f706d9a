/**
 * Migration states by QEMU's names, and their allowed successors. docs/safety.md explains which end
 * runs the guest.
 */
/**
 * `none → setup → active → device → completed`, or with postcopy
 * `… device → postcopy-device → postcopy-active → completed`.
 *
 * `device`: the guest is stopped, and its device state is being sent. `postcopy-device`: the
 * package was sent, and its last ping is not answered yet. A destination goes
 * `active → postcopy-device` at LISTEN and becomes `postcopy-active` at RUN. A failure before the
 * package is complete leads to `failed`, a broken connection after it to `postcopy-paused`.
 *
 * Recovery: `postcopy-paused → postcopy-recover-setup` (connects, or listens) `→ postcopy-recover`
 * (both ends exchange what they have) `→ postcopy-active`. A failure leads back to
 * `postcopy-paused`. A source that replaces a lost one begins with recovery.
 */
export type MigrationState =
  | 'none'
  | 'setup'
  | 'active'
  | 'device'
  | 'postcopy-device'
  | 'postcopy-active'
  | 'postcopy-paused'
  | 'postcopy-recover-setup'
  | 'postcopy-recover'
  | 'completed'
  | 'failed'
  | 'cancelling'
  | 'cancelled'

export const successors: Readonly<Record<MigrationState, readonly MigrationState[]>> = {
  none: ['setup', 'failed', 'postcopy-recover-setup', 'postcopy-paused'],
  setup: ['active', 'failed', 'cancelling'],
  active: ['device', 'postcopy-device', 'completed', 'failed', 'cancelling'],
  device: ['postcopy-device', 'completed', 'failed', 'cancelling'],
  'postcopy-device': ['postcopy-active', 'postcopy-paused', 'failed'],
  'postcopy-active': ['postcopy-paused', 'completed'],
  'postcopy-paused': ['postcopy-recover-setup'],
  'postcopy-recover-setup': ['postcopy-recover', 'postcopy-paused'],
  'postcopy-recover': ['postcopy-active', 'postcopy-paused'],
  completed: [],
  failed: [],
  cancelling: ['cancelled', 'failed'],
  cancelled: [],
}

/** The migration is over. */
export function isFinal(state: MigrationState): boolean {
  return successors[state].length === 0
}

/** Nothing more happens without a command: it is over, or paused until a recovery. */
export function isAtRest(state: MigrationState): boolean {
  return isFinal(state) || state === 'postcopy-paused'
}

/** Postcopy is running, or continues after a recovery: pages are still owed. */
export function isInPostcopy(state: MigrationState): boolean {
  return state.startsWith('postcopy-')
}

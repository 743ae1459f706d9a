/** Options of parking a running QEMU, and the checks before it. */
import { resolve } from 'node:path'
import { errorToRecord, PostcopyError } from '../errors.js'
import type { TrustOptions } from '../park/index.js'
import { printable, sentence } from '../printable.js'
import type { Disk } from './disks.js'
import type { WantedSettings } from './migration-settings.js'
import { readLaunch, type LaunchRecord } from './qemu-process.js'
import type { QmpClient } from './qmp-client.js'
import { planOverlays, type PlannedOverlay } from './snapshot-disks.js'
import type { VmMonitor } from './vm-monitor.js'

/** Milliseconds of precopy, or: none, or no postcopy at all. */
export type SwitchAfter = number | 'now' | 'never'

export interface ParkRunningOptions extends TrustOptions {
  /** Path of QEMU's QMP socket. */
  readonly qmp: string
  /** Where the VM is written. Must not exist yet. */
  readonly directory: string
  /** When to switch to postcopy. Default `now`. */
  readonly after?: SwitchAfter
  /** Whether the guest continues in its QEMU afterwards. */
  readonly keepRunning?: boolean
  /** Give its disks new overlays first: `true`: beside each disk; or the folder for them. */
  readonly snapshotDisks?: string | true
  /** Whether to record how QEMU was started. Default true. */
  readonly recordLaunch?: boolean
  /** Called with each message about the progress. */
  readonly note?: (text: string) => void
}

/** Capabilities that parking does not support, or that change what is left in this QEMU. */
const OFF = [
  'xbzrle',
  'compress',
  'multifd',
  'block',
  'dirty-bitmaps',
  'release-ram',
  'x-ignore-shared',
  'x-colo',
  'background-snapshot',
  'mapped-ram',
  'postcopy-preempt',
  'zero-copy-send',
  'switchover-ack',
]
/** Bytes per second; QEMU's default is 1 Gbit/s. */
const UNLIMITED = 2 ** 40
/** States of a VM that can be parked. */
const CAN_BE_PARKED = ['running', 'paused', 'prelaunch', 'suspended']
/** Statuses in which there is no migration. */
export const IDLE = ['none', 'completed', 'failed', 'cancelled']
const OLDEST = [4, 0] as const

export function checkVersion({ version }: QmpClient): void {
  const { major, minor, micro } = version
  const [oldestMajor, oldestMinor] = OLDEST
  if (major > oldestMajor || (major === oldestMajor && minor >= oldestMinor)) return
  throw new PostcopyError(
    'ERR_QEMU_VERSION',
    `QEMU ${major}.${minor}.${micro} is too old: parking needs QEMU ${OLDEST.join('.')}, and is tested with 7.2`,
  )
}

export async function checkState(vm: VmMonitor): Promise<string> {
  const { status } = await vm.migration()
  if (!IDLE.includes(status)) {
    const text = `that QEMU has a migration already (${status}): wait for its end, or cancel it (migrate_cancel)`
    throw new PostcopyError('ERR_QEMU_STATE', text)
  }
  const runState = await vm.runState()
  if (CAN_BE_PARKED.includes(runState)) return runState
  const why =
    runState === 'postmigrate'
      ? 'its guest has already been migrated; cont starts it again, unless it runs elsewhere'
      : 'its guest has to be running or paused'
  throw new PostcopyError('ERR_QEMU_STATE', `that QEMU is in the state ${runState}: ${why}`)
}

/** Without a record, the working directory is not known either. */
export function launchOf(
  client: QmpClient,
  { recordLaunch = true, note }: ParkRunningOptions,
): { record: LaunchRecord | undefined } {
  const { major, minor, micro } = client.version
  try {
    return { record: readLaunch(client.peerPid, `${major}.${minor}.${micro}`) }
  } catch (error) {
    const { message } = errorToRecord(error)
    if (recordLaunch) note?.(`${message}; resume --start will need the command after --`)
    return { record: undefined }
  }
}

/** @returns the overlays to take @throws PostcopyError */
export function checkDisks(
  disks: readonly Disk[],
  directory: string,
  { keepRunning = false, snapshotDisks, directory: target }: ParkRunningOptions,
): PlannedOverlay[] {
  const writable = disks.filter(({ isReadOnly }) => !isReadOnly)
  if (!keepRunning || writable.length === 0) return []
  if (snapshotDisks === undefined) {
    const names = writable.map(({ name, file }) => `${printable(name)} (${printable(file)})`)
    const text = `the guest would continue and write to its disks, which the parked VM needs as they are: ${names.join(', ')}. --snapshot-disks gives the running guest new overlays first`
    throw new PostcopyError('ERR_DISKS_SHARED', text)
  }
  const suffix = new Date().toISOString().replaceAll(/\D/g, '').slice(0, 14)
  // QEMU would take a relative path from its own working directory.
  const folder = snapshotDisks === true ? undefined : resolve(snapshotDisks)
  if (folder === resolve(target)) {
    throw new PostcopyError(
      'ERR_USAGE',
      '--snapshot-disks needs a folder other than that of the VM',
    )
  }
  return planOverlays(writable, { directory, folder, suffix })
}

export function wantedSettings(
  { after = 'now' }: ParkRunningOptions,
  overlays: readonly PlannedOverlay[],
): WantedSettings {
  const pauses = overlays.length > 0
  const on = ['events', 'return-path', ...(pauses ? ['pause-before-switchover'] : [])]
  const off = pauses ? OFF : [...OFF, 'pause-before-switchover']
  return {
    on: after === 'never' ? on : [...on, 'postcopy-ram'],
    off: after === 'never' ? [...off, 'postcopy-ram'] : off,
    parameters: { 'max-bandwidth': UNLIMITED, 'max-postcopy-bandwidth': 0, 'tls-creds': '' },
  }
}

/**
 * Why a migration has failed: our own reason, and QEMU's.
 *
 * @param status - of QEMU's migration
 */
export function withReason(
  error: PostcopyError | undefined,
  status: string,
  errorDesc: string | undefined,
): PostcopyError {
  const there = `QEMU's migration is ${printable(status)}${errorDesc === undefined ? '' : `: ${printable(errorDesc)}`}`
  if (error === undefined) {
    const text = status === 'completed' ? `${there}, but the VM is not on disk` : there
    return new PostcopyError('ERR_QEMU_MIGRATION', text)
  }
  if (errorDesc === undefined) return error
  return new PostcopyError(error.code, `${sentence(error.message)} ${there}`, { cause: error })
}

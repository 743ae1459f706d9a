/**
 * The phases of a source: which events and messages of the return path each takes, what it does
 * then, and which phase follows. A migration, its recoveries and the model check use this table.
 *
 * - `connect`, `connected`: begins to connect; the destination has answered
 * - `stop`: precopy is over, the guest is to be stopped
 * - `send-precopy`, `send-package`: the next bytes let the destination run the guest
 * - `loaded`: the destination has loaded the devices (pong 0x42)
 * - `confirmed`: it needs nothing any more: SHUT 0, or all bytes were taken without a return path
 * - `cancel`: by command, before the guest is sent
 * - `refused`: SHUT other than 0, before the destination ran the guest
 * - `broken`: any other failure
 */
import type { PhaseMachine, PhaseTable } from '../migration/index.js'

export type SourcePhase =
  | 'none'
  | 'setup'
  | 'precopy'
  | 'stopping'
  | 'cancelling'
  | 'cancelling-stopped'
  | 'precopy-sent'
  | 'package-sent'
  | 'pushing'
  | 'paused'
  | 'recover-setup'
  | 'recover-bitmaps'
  | 'recover-resume'
  | 'completed'
  | 'failed'
  | 'cancelled'

export type SourceEvent =
  | 'connect'
  | 'connected'
  | 'stop'
  | 'send-precopy'
  | 'send-package'
  | 'loaded'
  | 'confirmed'
  | 'cancel'
  | 'refused'
  | 'broken'
  | 'RECV_BITMAP'
  | 'POSTCOPY_RESUME'
  | 'RESUME_ACK'

export type SourceAction =
  /** The destination may have the guest from here on: see `Handover`. */
  | 'handOverPrecopy'
  | 'handOverPostcopy'
  /** The destination has said that it has the guest. */
  | 'claim'
  | 'confirm'
  /** Closes the connection and the dirty log. */
  | 'release'
  /** The destination has refused the guest: it is here to stay. */
  | 'giveBack'
  /** Starts the guest again, if the migration has stopped it. */
  | 'resumeGuest'
  | 'keepBitmap'

export type SourcePhaseMachine = PhaseMachine<SourcePhase, SourceEvent, SourceAction>

const isRefused = { to: 'failed', do: ['giveBack', 'resumeGuest'] } as const
const isPaused = { to: 'paused' } as const
const isCancelled = { to: 'cancelled' } as const
const isCancelledStopped = { to: 'cancelled', do: ['resumeGuest'] } as const

export const sourcePhases: PhaseTable<SourcePhase, SourceEvent, SourceAction> = {
  none: { state: 'none', on: { connect: { to: 'setup' } } },
  setup: {
    state: 'setup',
    on: {
      connected: { to: 'precopy' },
      cancel: { to: 'cancelling' },
      refused: { to: 'failed' },
      broken: { to: 'failed' },
    },
  },
  precopy: {
    state: 'active',
    on: {
      stop: { to: 'stopping' },
      cancel: { to: 'cancelling' },
      refused: { to: 'failed' },
      broken: { to: 'failed' },
    },
  },
  stopping: {
    state: 'device',
    on: {
      'send-precopy': { to: 'precopy-sent', do: ['handOverPrecopy'] },
      'send-package': { to: 'package-sent', do: ['handOverPostcopy'] },
      cancel: { to: 'cancelling-stopped' },
      refused: { to: 'failed', do: ['resumeGuest'] },
      broken: { to: 'failed', do: ['resumeGuest'] },
    },
  },
  cancelling: { state: 'cancelling', on: { refused: isCancelled, broken: isCancelled } },
  'cancelling-stopped': {
    state: 'cancelling',
    on: { refused: isCancelledStopped, broken: isCancelledStopped },
  },
  'precopy-sent': {
    state: 'device',
    // Broken: the destination may run the guest, which stays stopped here.
    on: {
      confirmed: { to: 'completed', do: ['confirm', 'release'] },
      refused: isRefused,
      broken: { to: 'failed' },
    },
  },
  'package-sent': {
    state: 'postcopy-device',
    on: {
      loaded: { to: 'pushing', do: ['claim'] },
      refused: isRefused,
      broken: isPaused,
    },
  },
  pushing: {
    state: 'postcopy-active',
    on: {
      loaded: { to: 'pushing' },
      confirmed: { to: 'completed', do: ['confirm', 'release'] },
      refused: isPaused,
      broken: isPaused,
    },
  },
  paused: { state: 'postcopy-paused', on: { connect: { to: 'recover-setup' } } },
  'recover-setup': {
    state: 'postcopy-recover-setup',
    on: { connected: { to: 'recover-bitmaps' }, refused: isPaused, broken: isPaused },
  },
  'recover-bitmaps': {
    state: 'postcopy-recover',
    on: {
      RECV_BITMAP: { to: 'recover-bitmaps', do: ['keepBitmap'] },
      POSTCOPY_RESUME: { to: 'recover-resume' },
      refused: isPaused,
      broken: isPaused,
    },
  },
  'recover-resume': {
    state: 'postcopy-recover',
    on: { RESUME_ACK: { to: 'pushing', do: ['claim'] }, refused: isPaused, broken: isPaused },
  },
  completed: { state: 'completed', on: {} },
  failed: { state: 'failed', on: {} },
  cancelled: { state: 'cancelled', on: {} },
}

/**
 * The phases of a source: which events and return path messages each phase accepts, what it does
 * then, and which phase follows. A migration, its recoveries and the model check use this table.
 *
 * - `connect`, `connected`: the source begins to connect; the connection is ready for pages
 * - `stop`: precopy is over, and the guest is to be stopped
 * - `send-precopy`, `send-package`: the next bytes let the destination run the guest
 * - `loaded`: the destination has loaded the devices (pong 0x42)
 * - `confirmed`: the destination needs nothing more: SHUT 0, or, without a return path, the kernel
 *   has taken all bytes
 * - `cancel`: by command, before the guest is sent
 * - `refused`: SHUT other than 0
 * - `broken`: any other failure
 * - `REQ_PAGES`, `RECV_BITMAP`, `RESUME_ACK`: messages of the return path
 * - `POSTCOPY_RESUME`: the source sends this command
 */
import { PeerError } from '../errors.js'
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
  | 'POSTCOPY_RESUME'
  | SourceMessage

/** Messages of the destination that only some phases accept; PONG and SHUT may come in all. */
export type SourceMessage = 'REQ_PAGES' | 'RECV_BITMAP' | 'RESUME_ACK'

export type SourceAction =
  /** The destination may have the guest from now on, see `Handover`. */
  | 'handOverPrecopy'
  | 'handOverPostcopy'
  /** The destination has confirmed that it has the guest. */
  | 'claim'
  | 'confirm'
  /** Closes the connection and the dirty log. */
  | 'release'
  /** The destination has refused the guest, which stays here. */
  | 'giveBack'
  /** Starts the guest again if the migration has stopped it. */
  | 'resumeGuest'
  /** Queues the requested pages, which are sent before all others. */
  | 'queuePages'
  | 'keepBitmap'

export type SourcePhaseMachine = PhaseMachine<SourcePhase, SourceEvent, SourceAction>

/**
 * A page request: the pages are queued and sent before all others. In precopy it changes only their
 * order; in a recovery a destination may request its pages again before it confirms.
 */
const queue = <Phase>(phase: Phase) => ({ to: phase, do: ['queuePages'] }) as const
const isRefused = { to: 'failed', do: ['giveBack', 'resumeGuest'] } as const
const isPaused = { to: 'paused' } as const
const isCancelled = { to: 'cancelled' } as const
const isCancelledStopped = { to: 'cancelled', do: ['resumeGuest'] } as const

export const sourcePhases: PhaseTable<SourcePhase, SourceEvent, SourceAction> = {
  none: { state: 'none', on: { connect: { to: 'setup' } } },
  setup: {
    state: 'setup',
    on: {
      REQ_PAGES: queue('setup'),
      connected: { to: 'precopy' },
      cancel: { to: 'cancelling' },
      refused: { to: 'failed' },
      broken: { to: 'failed' },
    },
  },
  precopy: {
    state: 'active',
    on: {
      REQ_PAGES: queue('precopy'),
      stop: { to: 'stopping' },
      cancel: { to: 'cancelling' },
      refused: { to: 'failed' },
      broken: { to: 'failed' },
    },
  },
  stopping: {
    state: 'device',
    on: {
      REQ_PAGES: queue('stopping'),
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
    // `broken`: the destination may run the guest, so it stays stopped here.
    on: {
      REQ_PAGES: queue('precopy-sent'),
      confirmed: { to: 'completed', do: ['confirm', 'release'] },
      refused: isRefused,
      broken: { to: 'failed' },
    },
  },
  'package-sent': {
    state: 'postcopy-device',
    on: {
      REQ_PAGES: queue('package-sent'),
      loaded: { to: 'pushing', do: ['claim'] },
      refused: isRefused,
      broken: isPaused,
    },
  },
  pushing: {
    state: 'postcopy-active',
    on: {
      REQ_PAGES: queue('pushing'),
      confirmed: { to: 'completed', do: ['confirm', 'release'] },
      refused: isPaused,
      broken: isPaused,
    },
  },
  paused: { state: 'postcopy-paused', on: { connect: { to: 'recover-setup' } } },
  'recover-setup': {
    state: 'postcopy-recover-setup',
    on: {
      REQ_PAGES: queue('recover-setup'),
      connected: { to: 'recover-bitmaps' },
      broken: isPaused,
    },
  },
  'recover-bitmaps': {
    state: 'postcopy-recover',
    on: {
      RECV_BITMAP: { to: 'recover-bitmaps', do: ['keepBitmap'] },
      REQ_PAGES: queue('recover-bitmaps'),
      POSTCOPY_RESUME: { to: 'recover-resume' },
      broken: isPaused,
    },
  },
  'recover-resume': {
    state: 'postcopy-recover',
    on: {
      REQ_PAGES: queue('recover-resume'),
      RESUME_ACK: { to: 'pushing', do: ['claim'] },
      broken: isPaused,
    },
  },
  completed: { state: 'completed', on: {} },
  failed: { state: 'failed', on: {} },
  cancelled: { state: 'cancelled', on: {} },
}

/**
 * Takes a message of the destination.
 *
 * @throws PeerError `ERR_PEER_PROTOCOL` if the phase does not accept it
 */
export function takeMessage(
  phases: SourcePhaseMachine,
  message: SourceMessage,
  actions: Parameters<SourcePhaseMachine['take']>[1],
): void {
  if (!phases.accepts(message)) {
    throw new PeerError(
      'ERR_PEER_PROTOCOL',
      `the destination sent ${message}, which is not valid in ${phases.state} (phase ${phases.phase})`,
    )
  }
  phases.take(message, actions)
}

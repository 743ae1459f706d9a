/**
 * The phases of a receiving end: which elements of the stream each phase accepts (protocol section
 * 4), what it does then, and which phase follows. The destination, parking and the model check use
 * this table.
 *
 * Elements are named as on the wire. The other events:
 *
 * - `listen`, `connect`: a source may connect; a source has connected
 * - `recover`: about to listen for the source of a paused migration
 * - `taken`: the guest is here; it runs, is stopped by its owner, or is on disk
 * - `whole`: every page is here
 * - `shut`: the same for parking, which waits for the source to close after SHUT 0
 * - `closed`: the source has closed the connection
 * - `failed`, `lost`: a failure before and after the guest was taken
 */
import type { PhaseTable } from '../migration/index.js'

export type IncomingPhase =
  | 'none'
  | 'setup'
  | 'precopy'
  | 'advise'
  | 'discard'
  | 'loading'
  | 'loaded'
  | 'loaded-shut'
  | 'listening'
  | 'listening-ended'
  | 'running'
  | 'running-ended'
  | 'running-shut'
  | 'paused'
  | 'to-recover'
  | 'recover-setup'
  | 'recover'
  | 'completed'
  | 'failed'

export type IncomingEvent =
  | 'POSTCOPY_ADVISE'
  | 'RAM'
  | 'POSTCOPY_RAM_DISCARD'
  | 'PACKAGED'
  | 'DEVICES'
  | 'EOF'
  | 'RECV_BITMAP'
  | 'POSTCOPY_RESUME'
  | 'listen'
  | 'connect'
  | 'recover'
  | 'taken'
  | 'whole'
  | 'shut'
  | 'closed'
  | 'failed'
  | 'lost'

export type IncomingAction =
  /** Checks that both ends mean the same pages, and that this host can handle page faults. */
  | 'prepare'
  | 'beginDiscards'
  | 'discard'
  /** From now on, a touch of a missing page is a fault, which is handled. */
  | 'arm'
  | 'loadPackage'
  | 'loadDevices'
  /** For a machine without devices, which runs all the same. */
  | 'loadNothing'
  /** Rejects the end of a stream if pages are missing. */
  | 'checkComplete'
  | 'sendBitmap'
  /** Answers RESUME. */
  | 'acknowledge'
  /** Requests again the pages that threads wait for. */
  | 'askAgain'
  /** Missing pages cause no faults any more. */
  | 'disarm'
  /** Sends SHUT 0. */
  | 'confirm'
  /** Sends SHUT 1: the guest has not run here, and will not. */
  | 'refuse'
  /** Leaves threads that need a missing page parked. */
  | 'keepParked'
  | 'close'

const isRefused = { to: 'failed', do: ['refuse'] } as const
const isPaused = { to: 'paused', do: ['keepParked'], then: ['close'] } as const
/** A failure after all of a precopy was received does not affect the guest. */
const isIgnored = (to: 'loading' | 'loaded') => ({ to }) as const

export const incomingPhases: PhaseTable<IncomingPhase, IncomingEvent, IncomingAction> = {
  none: { state: 'none', on: { listen: { to: 'setup' }, failed: isRefused } },
  setup: { state: 'setup', on: { connect: { to: 'precopy' }, failed: isRefused } },
  precopy: {
    state: 'active',
    on: {
      POSTCOPY_ADVISE: { to: 'advise', do: ['prepare'] },
      RAM: { to: 'precopy' },
      DEVICES: { to: 'loading', do: ['checkComplete'], then: ['loadDevices'] },
      EOF: { to: 'loading', do: ['checkComplete'], then: ['loadNothing'] },
      failed: isRefused,
    },
  },
  advise: {
    state: 'active',
    on: {
      POSTCOPY_ADVISE: { error: 'a second POSTCOPY_ADVISE' },
      RAM: { to: 'advise' },
      POSTCOPY_RAM_DISCARD: { to: 'discard', do: ['beginDiscards', 'discard'] },
      PACKAGED: { to: 'listening', do: ['beginDiscards', 'arm'], then: ['loadPackage'] },
      DEVICES: { to: 'loading', do: ['checkComplete'], then: ['loadDevices'] },
      EOF: { to: 'loading', do: ['checkComplete'], then: ['loadNothing'] },
      failed: isRefused,
    },
  },
  discard: {
    state: 'active',
    on: {
      POSTCOPY_ADVISE: { error: 'a second POSTCOPY_ADVISE' },
      RAM: { to: 'discard' },
      POSTCOPY_RAM_DISCARD: { to: 'discard', do: ['discard'] },
      PACKAGED: { to: 'listening', do: ['arm'], then: ['loadPackage'] },
      DEVICES: { error: 'a device section after a discard' },
      EOF: { error: 'EOF after a discard, without a package,' },
      failed: isRefused,
    },
  },
  loading: {
    state: 'active',
    on: {
      EOF: { to: 'loading' },
      taken: { to: 'loaded' },
      closed: { to: 'loading' },
      failed: isRefused,
      lost: isIgnored('loading'),
    },
  },
  loaded: {
    state: 'active',
    on: {
      whole: { to: 'completed', do: ['confirm'] },
      shut: { to: 'loaded-shut', do: ['confirm'] },
      closed: { to: 'loaded' },
      lost: isIgnored('loaded'),
    },
  },
  'loaded-shut': {
    state: 'active',
    on: { closed: { to: 'completed' }, lost: { to: 'failed', then: ['close'] } },
  },
  listening: {
    state: 'postcopy-device',
    on: {
      RAM: { to: 'listening' },
      EOF: { to: 'listening-ended', do: ['checkComplete'] },
      taken: { to: 'running' },
      failed: isRefused,
      lost: isPaused,
    },
  },
  'listening-ended': {
    state: 'postcopy-device',
    on: {
      taken: { to: 'running-ended' },
      closed: { to: 'listening-ended' },
      failed: isRefused,
      lost: isPaused,
    },
  },
  running: {
    state: 'postcopy-active',
    on: {
      RAM: { to: 'running' },
      EOF: { to: 'running-ended', do: ['checkComplete'] },
      lost: isPaused,
    },
  },
  'running-ended': {
    state: 'postcopy-active',
    on: {
      whole: { to: 'completed', do: ['disarm', 'confirm'] },
      shut: { to: 'running-shut', do: ['confirm'] },
      closed: { to: 'running-ended' },
      lost: isPaused,
    },
  },
  'running-shut': {
    state: 'postcopy-active',
    on: { closed: { to: 'completed' }, lost: isPaused },
  },
  paused: { state: 'postcopy-paused', on: {} },
  // A recovery begins here, in a new worker.
  'to-recover': {
    state: 'postcopy-paused',
    on: { recover: { to: 'recover-setup' }, lost: isPaused },
  },
  'recover-setup': {
    state: 'postcopy-recover-setup',
    on: { connect: { to: 'recover' }, lost: isPaused },
  },
  recover: {
    state: 'postcopy-recover',
    on: {
      RAM: { error: 'a RAM section' },
      RECV_BITMAP: { to: 'recover', do: ['sendBitmap'] },
      POSTCOPY_RESUME: { to: 'running', do: ['acknowledge'], then: ['askAgain'] },
      lost: isPaused,
    },
  },
  completed: { state: 'completed', on: {} },
  failed: { state: 'failed', on: {} },
}

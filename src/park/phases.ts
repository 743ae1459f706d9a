import { incomingPhases } from '../destination/index.js'

/**
 * The phases of parking: those of a destination, except for a recovery. `--recover` runs in a new
 * process, so users see a new migration. If it fails, `DIR.incomplete` stays.
 */
export const parkPhases: typeof incomingPhases = {
  ...incomingPhases,
  'to-recover': {
    state: 'none',
    on: { recover: { to: 'recover-setup' }, lost: { to: 'failed', then: ['close'] } },
  },
  'recover-setup': {
    state: 'setup',
    on: { connect: { to: 'recover' }, lost: { to: 'failed', then: ['close'] } },
  },
  recover: {
    state: 'active',
    on: {
      RAM: { error: 'a RAM section' },
      RECV_BITMAP: { to: 'recover', do: ['sendBitmap'] },
      POSTCOPY_RESUME: { to: 'listening', then: ['acknowledge'] },
      // All pages had been received before.
      whole: { to: 'completed', do: ['confirm'] },
      lost: { to: 'failed', then: ['close'] },
    },
  },
}

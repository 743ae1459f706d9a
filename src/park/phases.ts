import { incomingPhases } from '../destination/index.js'

/**
 * The phases of parking: those of a destination, except for a recovery. The earlier worker has
 * ended, and its files stay whatever happens. So users see a new migration, which may fail.
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

import { incomingPhases } from '../destination/index.js'

/**
 * The phases of parking: those of a destination, but for a recovery. Its first worker is gone, and
 * what it has kept stays whatever happens: users see a migration that begins, and may fail.
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
      POSTCOPY_RESUME: { to: 'listening', then: ['askAgain', 'acknowledge'] },
      // No page was missing any more.
      whole: { to: 'completed', do: ['confirm'] },
      lost: { to: 'failed', then: ['close'] },
    },
  },
}

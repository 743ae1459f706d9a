/** The errors of a source whose connection broke after it handed the guest over. */
import { ConnectionError, type ErrorRecord } from '../errors.js'
import type { GuestLocation } from '../migration/index.js'
import { sentence } from '../printable.js'

const UNKNOWN =
  'the destination has not confirmed that it has the guest: whether it runs there is not known'
const COMPLETED =
  'if its migration is completed, it has the whole guest, and this end may be closed (quit -f)'

/** The error of a plain precopy: a start of the guest here could make two of it. */
export function unconfirmed(cause: unknown): ConnectionError {
  return new ConnectionError(
    'ERR_CONNECTION_UNCONFIRMED',
    `all of the guest was sent, but ${UNKNOWN}, and it stays stopped here. Check the destination (info status; QMP query-status): start the guest here (cont) only if the destination has failed or has ended`,
    { cause },
  )
}

export interface PauseEvidence {
  readonly location: GuestLocation
  /** The destination may have every page. */
  readonly isAllSent: boolean
  /** Another source has sent the guest, see {@link Source.takeOver}. */
  readonly isTakenOver: boolean
}

/**
 * Why a postcopy paused, with what is known about the guest and what its user can do.
 *
 * @returns `error` itself if its text is enough; otherwise a new one with `error` as the `cause`
 */
export function explainPause(
  error: ErrorRecord,
  { location, isAllSent, isTakenOver }: PauseEvidence,
): ErrorRecord {
  if (location === 'unknown' && isTakenOver) {
    return withAdvice(
      error,
      'The destination has not answered the recovery: whether it has the guest is not known. Check it (info migrate; QMP query-migrate): if it is postcopy-paused, recover at both ends; otherwise it has no guest to recover',
    )
  }
  const completed = isAllSent ? `; ${COMPLETED}` : ''
  if (location === 'unknown') {
    return withAdvice(
      error,
      `The guest was sent, but ${UNKNOWN}. Check the destination (info status; QMP query-status): if it has the guest, recover at both ends${completed}; start the guest elsewhere only if the destination has failed or has ended`,
    )
  }
  if (!isAllSent) return error
  return withAdvice(
    error,
    `Every page was sent, but the destination has not confirmed that. Check it (info migrate; QMP query-migrate): if it is postcopy-paused, recover at both ends${completed}`,
  )
}

function withAdvice(error: ErrorRecord, advice: string): ErrorRecord {
  return { ...error, message: `${sentence(error.message)} ${advice}`, cause: error }
}

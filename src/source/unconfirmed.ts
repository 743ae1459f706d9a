import { ConnectionError } from '../errors.js'

/** All was sent, no answer came: starting the guest here could make two of it. */
export function unconfirmed(cause: unknown): ConnectionError {
  return new ConnectionError(
    'ERR_CONNECTION_UNCONFIRMED',
    'the destination has the whole guest but has not confirmed it: it stays stopped here; start it (cont) only if it does not run there',
    { cause },
  )
}

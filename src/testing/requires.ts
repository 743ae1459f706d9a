/** The needs of a test on the host, and the skip with a reason if one is not met. */
import { type Missing, missingFor, type Needs, readHost } from '../host/index.js'
import { PostcopyError } from '../errors.js'

/** Mocha's `this`, or the context of `node:test`. */
export interface SkippableTest {
  skip(reason?: string): unknown
}

/**
 * The first need that this host and user do not meet, with the reason; `undefined` if all are met.
 */
export function missing(needs: Needs): Missing | undefined {
  return missingFor(needs, readHost())
}

/**
 * Skips a test unless all needs are met. Mocha's `skip()` throws and so ends the test; with
 * `node:test` continue only if this returned true.
 *
 * A need named in the environment variable `POSTCOPY_REQUIRE` (`POSTCOPY_REQUIRE=root,hugePages`)
 * must be met: there a skip would hide that nothing was tested.
 *
 * @throws PostcopyError `ERR_REQUIRED` for an unmet need that `POSTCOPY_REQUIRE` names
 */
export function requires(test: SkippableTest, needs: Needs): boolean {
  const lacking = missing(needs)
  if (lacking === undefined) return true
  const { need, reason } = lacking
  if ((process.env['POSTCOPY_REQUIRE'] ?? '').split(',').includes(need)) {
    throw new PostcopyError('ERR_REQUIRED', `POSTCOPY_REQUIRE names ${need}, but ${reason}`)
  }
  test.skip(reason)
  return false
}

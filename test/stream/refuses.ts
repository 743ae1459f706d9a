import { ok, strictEqual, throws } from 'node:assert/strict'
import { StreamError } from '../../src/stream/index.js'

/** Asserts that `run` throws a StreamError with this code, and returns the error. */
export function refuses(run: () => unknown, code: string, what = ''): StreamError {
  let caught: unknown
  throws(
    run,
    (error) => {
      caught = error
      return true
    },
    what,
  )
  ok(caught instanceof StreamError, `${what}: ${String(caught)}`)
  strictEqual(caught.code, code, `${what}: ${caught.message}`)
  return caught
}

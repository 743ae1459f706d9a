import assert from 'node:assert/strict'
import type { ErrorRecord } from '../../src/errors.js'
import type { GuestLocation } from '../../src/migration/guest-location.js'
import { explainPause, unconfirmed } from '../../src/source/unconfirmed.js'

const broken: ErrorRecord = { kind: 'connection', code: 'ECONNRESET', message: 'reset' }

function paused(location: GuestLocation, isAllSent = false, isTakenOver = false): ErrorRecord {
  return explainPause(broken, { location, isAllSent, isTakenOver })
}

describe('the error of a source that has handed the guest over', () => {
  it('names its cause, and when the guest may be started here', () => {
    const error = unconfirmed(broken)
    assert.equal(error.code, 'ERR_CONNECTION_UNCONFIRMED')
    assert.equal(error.cause, broken)
    assert.match(
      error.message,
      /start the guest here \(cont\) only if the destination has failed or has ended/,
    )
  })

  it('is the failure itself if the destination has the guest and misses pages', () => {
    assert.equal(paused('elsewhere'), broken)
    assert.equal(paused('here'), broken)
  })

  const cases: readonly [string, ErrorRecord, RegExp, RegExp | undefined][] = [
    [
      'if the guest may be there',
      paused('unknown'),
      /^reset\. The guest was sent, but .* recover at both ends; start the guest elsewhere only if the destination has failed/,
      /may be closed \(quit -f\)/,
    ],
    [
      'if the guest and all its pages may be there',
      paused('unknown', true),
      /recover at both ends; if its migration is completed.*\(quit -f\)/,
      undefined,
    ],
    [
      'if the guest is there, maybe with all its pages',
      paused('elsewhere', true),
      /^reset\. Every page was sent, .*recover at both ends; if its migration is completed/,
      /start the guest/,
    ],
    [
      'if another source has sent the guest',
      paused('unknown', false, true),
      /^reset\. The destination has not answered the recovery/,
      /start the guest/,
    ],
  ]
  for (const [when, error, text, never] of cases) {
    it(`says what can be done ${when}`, () => {
      assert.match(error.message, text)
      if (never !== undefined) assert.doesNotMatch(error.message, never)
      assert.equal(error.code, 'ECONNRESET')
      assert.equal(error.cause, broken)
    })
  }
})

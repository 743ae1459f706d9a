/** What a monitor reports about the location of the guest. */
import assert from 'node:assert/strict'
import type { GuestLocation } from '../../src/migration/guest-location.js'
import type { MigrationState } from '../../src/migration/states.js'
import { refuseToLeave, refuseToRun, presenceOf } from '../../src/monitor/guest-presence.js'

const mayRunThere = [
  'device',
  'postcopy-device',
  'postcopy-active',
  'postcopy-paused',
  'postcopy-recover-setup',
  'postcopy-recover',
  'completed',
] as const satisfies MigrationState[]

function messages(state: MigrationState, guestLocation: GuestLocation): string[] {
  const source = { state, guestLocation }
  const presence = presenceOf(source, undefined, false)
  const commands = [
    () => refuseToRun('cont', presence, source),
    () => refuseToRun('stop', presence, source),
    ...(state === 'completed' ? [() => refuseToLeave(presence, source)] : []),
  ]
  return commands.map((command) => {
    try {
      command()
    } catch (error) {
      return String(error)
    }
    return assert.fail(`${state} and ${guestLocation} refuses nothing`)
  })
}

describe('a monitor', () => {
  for (const state of mayRunThere) {
    it(`reports for a source in ${state} that the location of the guest is not known`, () => {
      for (const message of messages(state, 'unknown')) {
        assert.match(message, /has not confirmed.*whether it runs there is not known/)
        assert.doesNotMatch(message, /runs elsewhere|destination has confirmed|resumes it here/)
      }
    })
  }

  for (const state of ['postcopy-active', 'postcopy-paused', 'completed'] as const) {
    it(`reports for a source in ${state} that the destination has the guest, and may have ended`, () => {
      for (const message of messages(state, 'elsewhere')) {
        assert.match(
          message,
          /the destination has confirmed that it has the guest, and may have ended since/,
        )
        assert.doesNotMatch(message, /runs elsewhere|not known/)
      }
    })
  }

  it('advises after a break when to recover, and when to take the guest back', () => {
    for (const message of messages('postcopy-paused', 'elsewhere')) {
      assert.match(
        message,
        /If it still has the guest, .*migrate -r here continue.*cont -f .*: give it only if the guest is lost there/,
      )
    }
  })

  it('reports before the switch that the guest resumes here', () => {
    for (const message of messages('device', 'here')) {
      assert.match(message, /resumes it here if it fails/)
    }
  })

  for (const state of ['active', 'postcopy-device', 'postcopy-paused'] as const) {
    it(`has the guest of a destination in ${state} after it is claimed`, () => {
      assert.equal(presenceOf(undefined, { state, guestLocation: 'here' }, true), 'arriving')
      assert.equal(presenceOf(undefined, { state, guestLocation: 'elsewhere' }, true), 'awaited')
    })
  }
})

import assert from 'node:assert/strict'
import { MachineError } from '../../src/errors.js'
import {
  awaitHook,
  callHook,
  checkSaved,
  checkTaken,
  checkThreadIds,
} from '../../src/migration/hooks.js'

const device = { idstr: 'cpu', instanceId: 0, version: 1, data: Uint8Array.of(1) }

const failing = (): never => {
  throw new RangeError('no vCPU')
}

describe('a hook of a machine', () => {
  it('returns its value', async () => {
    assert.equal(
      callHook('saveDevices', () => 5),
      5,
    )
    assert.equal(await awaitHook('stop', () => Promise.resolve(6)), 6)
  })

  it('fails with an error that names it, with the cause', async () => {
    const isNamed = (error: unknown): boolean =>
      error instanceof MachineError &&
      error.cause instanceof RangeError &&
      /start\(7\).*failed.*no vCPU|stop\(\).*failed.*no vCPU/.test(error.message)
    assert.throws(() => callHook('start', failing, '7'), isNamed)
    await assert.rejects(awaitHook('stop', failing), isNamed)
    await assert.rejects(
      awaitHook('stop', () => Promise.reject(new RangeError('no vCPU'))),
      isNamed,
    )
  })

  it('must be synchronous: a promise is an error, and its rejection is no unhandled one', async () => {
    assert.throws(
      () => callHook('start', () => Promise.reject(new Error('later'))),
      (error) => error instanceof MachineError && error.message.includes('returned a promise'),
    )
    // An unhandled rejection would fail this test.
    await new Promise(setImmediate)
  })

  it('returns devices without other properties, or bytes', () => {
    assert.deepEqual(checkSaved([{ ...device, more: 1 }]), [device])
    assert.deepEqual(checkSaved([]), [])
    const bytes = Uint8Array.of(1)
    assert.equal(checkSaved(bytes), bytes)
  })

  for (const [what, value] of [
    ['nothing', undefined],
    ['an object', {}],
    ['null among the devices', [null]],
    ['a device without a name', [{ ...device, idstr: '' }]],
    ['a name of 256 bytes', [{ ...device, idstr: 'ä'.repeat(128) }]],
    ['a negative instance', [{ ...device, instanceId: -1 }]],
    ['a version of 33 bits', [{ ...device, version: 2 ** 32 }]],
    ['data that is no bytes', [{ ...device, data: [1] }]],
  ] as const) {
    it(`must not save ${what}`, () => {
      assert.throws(() => checkSaved(value), MachineError)
    })
  }

  it('takes no more bytes than it was given', () => {
    assert.deepEqual([checkTaken(0, 4, 'cpu'), checkTaken(4, 4, 'cpu')], [0, 4])
    for (const value of [-1, 5, 1.5, NaN, undefined, '1']) {
      assert.throws(() => checkTaken(value, 4, 'cpu'), MachineError)
    }
  })

  it('returns thread ids of 32 bits', () => {
    assert.deepEqual(checkThreadIds([0, 2 ** 32 - 1]), [0, 2 ** 32 - 1])
    for (const value of [undefined, [-1], ['1'], [2 ** 32]]) {
      assert.throws(() => checkThreadIds(value), MachineError)
    }
  })
})

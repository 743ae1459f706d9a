import assert from 'node:assert/strict'
import { ConnectionError, PostcopyError } from '../../src/errors.js'
import { AutoRecovery } from '../../src/migration/auto-recovery.js'
import { defaultParameters, type Parameters } from '../../src/migration/options.js'
import { RecordedTimers } from '../support/recorded-timers.js'

const broken = new ConnectionError('ECONNRESET', 'reset')

function recovery(parameters: Partial<Parameters> = {}, recover = () => Promise.resolve()) {
  const timers = new RecordedTimers()
  let tries = 0
  const auto = new AutoRecovery({
    parameters: () => ({ ...defaultParameters, ...parameters }),
    recover: () => {
      tries += 1
      return recover()
    },
  })
  return { timers, auto, tries: () => tries }
}

describe('AutoRecovery', () => {
  it('doubles its delay after each try, up to the longest', () => {
    const { auto, timers, tries } = recovery({ 'x-recover-delay': 100, 'x-recover-delay-max': 500 })
    const delays = Array.from({ length: 5 }, () => {
      auto.paused(broken)
      const [delay] = timers.delaysMs
      timers.fire()
      return delay
    })
    assert.deepEqual(delays, [100, 200, 400, 500, 500])
    assert.equal(tries(), 5)
  })

  for (const [first, last] of [
    [1, 10_000],
    [0, 0],
  ] as const) {
    it(`keeps a delay of ${last} ms after any number of tries, from ${first} ms on`, () => {
      const { auto, timers } = recovery({ 'x-recover-delay': first, 'x-recover-delay-max': 10_000 })
      for (let time = 0; time < 2000; time += 1) {
        auto.paused(broken)
        timers.fire()
      }
      auto.paused(broken)
      assert.deepEqual(timers.delaysMs, [last])
    })
  }

  it('begins with the first delay again after a recovery', () => {
    const { auto, timers } = recovery({ 'x-recover-delay': 100 })
    auto.paused(broken)
    timers.fire()
    auto.recovered()
    auto.paused(broken)
    assert.deepEqual(timers.delaysMs, [100])
  })

  it('has one try pending', () => {
    const { auto, timers } = recovery({ 'x-recover-delay': 100 })
    auto.paused(broken)
    auto.paused(broken)
    assert.deepEqual(timers.delaysMs, [200])
    auto.stop()
    assert.deepEqual(timers.delaysMs, [])
  })

  it('leaves a migration paused that was paused on purpose', () => {
    const { auto, timers } = recovery()
    auto.paused(broken)
    auto.paused(new ConnectionError('ERR_CONNECTION_PAUSED', 'as asked for'))
    assert.deepEqual(timers.delaysMs, [])
  })

  it('tries again itself only if the credentials could not be read', async () => {
    for (const [code, delays] of [
      ['ERR_TLS_CREDENTIALS', [400]],
      ['ERR_STATE_RECOVER', []],
    ] as const) {
      const { auto, timers } = recovery({ 'x-recover-delay': 200 }, () =>
        Promise.reject(new PostcopyError(code, 'no recovery')),
      )
      auto.paused(broken)
      timers.fire()
      await new Promise(setImmediate)
      assert.deepEqual(timers.delaysMs, delays)
    }
  })
})

import assert from 'node:assert/strict'
import { RateLimiter, RateMeter } from '../../src/source/rate-limiter.js'
import { Signal, tick } from '../../src/source/signal.js'
import { Clock } from '../support/clock.js'

describe('Signal', () => {
  it('wakes every waiter, with or without a timeout', async () => {
    const signal = new Signal()
    const waits = [signal.wait(), signal.wait(60_000), signal.wait()]
    signal.notify()
    await Promise.all(waits)
  })

  it('does not wake a wait that begins later', async () => {
    const signal = new Signal()
    signal.notify()
    const woken: string[] = []
    void signal.wait().then(() => woken.push('first'))
    await tick()
    assert.equal(woken.length, 0)
    signal.notify()
    void signal.wait().then(() => woken.push('second'))
    await tick()
    assert.deepEqual(woken, ['first'])
  })

  it('ends a wait after its timeout, and no other wait', async () => {
    const signal = new Signal()
    const woken: string[] = []
    const short = signal.wait(1)
    const long = signal.wait().then(() => woken.push('long'))
    await short
    assert.equal(woken.length, 0)
    signal.notify()
    await long
    assert.deepEqual(woken, ['long'])
  })
})

describe('RateLimiter', () => {
  it('lets one slice pass at once, then waits until it is repaid', () => {
    const clock = new Clock()
    const limiter = new RateLimiter()
    limiter.account(99)
    assert.equal(limiter.waitMs(1000), 0)
    limiter.account(51)
    assert.equal(limiter.waitMs(1000), 51)
    clock.ms += 50
    assert.equal(limiter.waitMs(1000), 1)
    clock.ms += 1
    assert.equal(limiter.waitMs(1000), 0)
  })

  it('never waits longer than a slice', () => {
    new Clock()
    const limiter = new RateLimiter()
    limiter.account(1e9)
    assert.equal(limiter.waitMs(1000), 100)
  })

  it('gives no credit for idle time', () => {
    const clock = new Clock()
    const limiter = new RateLimiter()
    clock.ms += 60_000
    assert.equal(limiter.waitMs(1000), 0)
    limiter.account(200)
    assert.equal(limiter.waitMs(1000), 100)
  })

  it('drops its debt while there is no limit', () => {
    new Clock()
    const limiter = new RateLimiter()
    limiter.account(1e9)
    assert.equal(limiter.waitMs(0), 0)
    assert.equal(limiter.waitMs(1000), 0)
  })
})

describe('RateMeter', () => {
  it('measures over at least one slice', () => {
    const clock = new Clock()
    const meter = new RateMeter()
    clock.ms += 99
    meter.add(50)
    assert.equal(meter.bytesPerSecond, 0)
    clock.ms += 101
    meter.add(50)
    assert.equal(meter.bytesPerSecond, 500)
    clock.ms += 100
    meter.add(7)
    assert.equal(meter.bytesPerSecond, 70, 'without what was measured before')
  })
})

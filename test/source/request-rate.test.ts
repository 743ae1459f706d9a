import assert from 'node:assert/strict'
import { RequestRate } from '../../src/source/request-rate.js'

/** Notes requests at equal intervals. */
function ask(rate: RequestRate, perMs: number, fromMs: number, ms: number): void {
  for (let count = 0; count < perMs * ms; count += 1) rate.note(fromMs + count / perMs)
}

describe('RequestRate', () => {
  it('detects a storm by its rate, and not by its length', () => {
    const rate = new RequestRate()
    assert.equal(rate.isStorm(0), false)
    ask(rate, 2, 0, 1000)
    assert.equal(rate.isStorm(1000), false)
    ask(rate, 10, 1000, 50)
    assert.equal(rate.isStorm(1050), true)
  })

  it('does not treat a burst as a storm', () => {
    const rate = new RequestRate()
    ask(rate, 30, 0, 1)
    assert.equal(rate.isStorm(1), false)
  })

  it('detects the end of a storm', () => {
    const rate = new RequestRate()
    ask(rate, 20, 0, 100)
    assert.equal(rate.isStorm(100), true)
    assert.equal(rate.isStorm(150), false)
  })
})

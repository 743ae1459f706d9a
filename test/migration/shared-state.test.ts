import assert from 'node:assert/strict'
import { SharedState } from '../../src/migration/shared-state.js'

const names = ['none', 'loading', 'lost'] as const

describe('SharedState', () => {
  it('begins with its first state, and is the same for another thread', () => {
    const state = new SharedState(names, undefined)
    const other = new SharedState(names, state.buffer)
    assert.deepEqual([state.current, other.current], ['none', 'none'])
    assert.equal(other.exchange('none', 'loading'), 'none')
    assert.equal(state.current, 'loading')
  })

  it('changes only from the expected state, and returns the previous one', () => {
    const state = new SharedState(names, undefined)
    assert.equal(state.exchange('loading', 'lost'), 'none')
    assert.equal(state.current, 'none')
  })

  it('changes from any of several states', () => {
    const state = new SharedState(names, undefined)
    assert.equal(state.exchangeAny(['lost', 'loading'], 'none'), false)
    assert.equal(state.exchangeAny(['loading', 'none'], 'lost'), true)
    assert.equal(state.current, 'lost')
    assert.equal(state.exchangeAny([], 'none'), false)
  })

  it('rejects a value of no state', () => {
    const state = new SharedState(names, undefined)
    new Int32Array(state.buffer)[0] = names.length
    assert.throws(() => state.current, RangeError)
  })
})

import assert from 'node:assert/strict'
import { createCounters, createReadOnlyCounters } from '../../src/migration/counters.js'

describe('the counters of a migration', () => {
  it('show what a worker writes, and cannot be written by others', () => {
    const seen = createReadOnlyCounters()
    createCounters(seen.buffer).faults += 3
    assert.equal(seen.faults, 3)
    assert.throws(() => Object.assign(seen, { faults: 0 }), TypeError)
    assert.equal(seen.faults, 3)
  })
})

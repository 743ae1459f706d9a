import assert from 'node:assert/strict'
import { createCounters, createReadOnlyCounters } from '../../src/migration/counters.js'

describe('the counters of a migration', () => {
  it('show the values that a worker writes, and are read-only for others', () => {
    const seen = createReadOnlyCounters()
    createCounters(seen.buffer).faults += 3
    assert.equal(seen.faults, 3)
    assert.throws(() => Object.assign(seen, { faults: 0 }), TypeError)
    assert.equal(seen.faults, 3)
  })
})

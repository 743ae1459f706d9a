/** The sequence of states on both sides of a migration. */
import assert from 'node:assert/strict'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { machines } from '../support/machine-pair.js'
import { migratePair, postcopy, postcopyStates, precopyStates } from '../support/migration.js'

describe('the states of both sides', () => {
  it('in precopy, without a return path', async () => {
    const { here, there } = machines()
    const { states } = await migratePair(here, there)
    assert.deepEqual(states, precopyStates)
  })

  it('in precopy, with a return path', async () => {
    const { here, there } = machines()
    const capabilities = { 'return-path': true }
    const { states } = await migratePair(here, there, { capabilities })
    assert.deepEqual(states, precopyStates)
  })

  it('in a precopy with postcopy-ram on', async () => {
    const { here, there } = machines()
    const { states, destination } = await migratePair(here, there, { capabilities: postcopy })
    assert.deepEqual(states, precopyStates)
    assert.equal(destination.counters.discardedPages, 0)
  })

  it('in postcopy', async () => {
    const { here, there } = machines()
    const { states } = await migratePair(here, there, { capabilities: postcopy, now: true })
    assert.deepEqual(states, postcopyStates)
  })

  it('over a unix socket', async () => {
    const { here, there } = machines()
    const path = join(tmpdir(), `postcopy-test-${String(process.pid)}.sock`)
    const destination = { uri: `unix:${path}` }
    const { states } = await migratePair(here, there, {
      capabilities: postcopy,
      now: true,
      destination,
    })
    assert.deepEqual(states, postcopyStates)
  })

  it("with the capability under QEMU's first name, x-postcopy-ram", async () => {
    const { here, there } = machines()
    const capabilities = { 'x-postcopy-ram': true } as object
    const { states } = await migratePair(here, there, { capabilities, now: true })
    assert.deepEqual(states, postcopyStates)
  })
})

import assert from 'node:assert/strict'
import type { MigratableMachine } from '../../src/migration/machine.js'
import { own, refuseOwned } from '../../src/migration/ownership.js'
import type { MigrationState } from '../../src/migration/states.js'
import { TestMachine } from '../support/test-machine.js'

const migration = (state: MigrationState = 'active') => ({ state })
const busy = { code: 'ERR_STATE_MACHINE_OWNED' }

function machine(): TestMachine {
  return new TestMachine({ blocks: { ram: 4096, rom: 4096 } })
}

/** Another machine over one of the blocks of `first`. */
function sharing(first: MigratableMachine): MigratableMachine {
  return Object.assign(Object.create(machine()) as MigratableMachine, {
    blocks: first.blocks.slice(1),
  })
}

/** A machine that several sources may send at once. */
function readOnly(): MigratableMachine {
  return Object.assign(machine(), { readOnly: true })
}

describe('the owner of a machine', () => {
  it('is one migration at a time', () => {
    const one = machine()
    const owner = migration()
    const release = own(one, owner, 'source')
    assert.throws(() => own(one, migration(), 'source'), busy)
    assert.throws(() => own(one, migration(), 'destination'), busy)
    assert.throws(() => refuseOwned(one), busy)
    release()
    own(one, migration(), 'destination')()
  })

  it('owns the memory, too, whatever machine it belongs to', () => {
    const one = machine()
    const other = sharing(one)
    const owner = migration()
    const release = own(one, owner, 'source')
    assert.throws(() => own(other, migration(), 'source'), busy)
    release()
    own(other, migration(), 'source')()
  })

  it('is one migration also of a machine without memory', () => {
    const one = Object.assign(Object.create(machine()) as MigratableMachine, { blocks: [] })
    const release = own(one, migration(), 'source')
    assert.throws(() => own(one, migration(), 'source'), busy)
    release()
    own(one, migration(), 'source')()
  })

  it('can release twice, which does not release a later owner', () => {
    const one = machine()
    const release = own(one, migration(), 'source')
    release()
    const later = migration()
    own(one, later, 'source')
    release()
    assert.throws(() => own(one, migration(), 'source'), busy)
    assert.equal(later.state, 'active')
  })

  it('shares a machine that is never written among sources only', () => {
    const one = readOnly()
    const owners = [migration(), migration()]
    const releases = owners.map((owner) => own(one, owner, 'source'))
    assert.throws(() => own(one, migration(), 'destination'), busy)
    releases[0]?.()
    assert.throws(() => own(one, migration(), 'destination'), busy)
    releases[1]?.()
    const owner = migration()
    own(one, owner, 'destination')
    assert.throws(() => own(one, migration(), 'source'), busy)
    assert.equal(owner.state, 'active')
  })

  for (const [role, state, text] of [
    ['source', 'completed', /was migrated away by another migration/],
    ['source', 'active', /another migration is sending the machine/],
    ['destination', 'active', /another migration is receiving the machine/],
  ] as const) {
    it(`is named by what it does: ${role}, ${state}`, () => {
      const one = machine()
      const owner = migration(state)
      const release = own(one, owner, role)
      assert.throws(() => refuseOwned(one), { ...busy, message: text, state })
      release()
    })
  }
})

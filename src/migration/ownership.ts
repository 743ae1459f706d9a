/** A machine is in one migration at a time: two migrations would make two guests of it. */
import { StateError } from '../errors.js'
import { isInMemory, type MigratableMachine } from './machine.js'
import type { MigrationState } from './states.js'

interface Owner {
  readonly migration: WeakRef<{ readonly state: MigrationState }>
  readonly role: 'source' | 'destination'
  readonly shares: boolean
}

const byMachine = new WeakMap<MigratableMachine, Set<Owner>>()
/** By region, because two machine objects may share the same memory. */
const byRegion = new Map<number, Set<Owner>>()

/**
 * Makes `migration` the owner of the machine and its regions.
 *
 * @returns releases the machine; may be called twice
 * @throws StateError `ERR_STATE_MACHINE_OWNED` if another migration owns it
 */
export function own(
  machine: MigratableMachine,
  migration: { readonly state: MigrationState },
  role: Owner['role'],
): () => void {
  const shares = role === 'source' && machine.readOnly === true
  refuseOwned(machine, shares)
  const owner: Owner = { migration: new WeakRef(migration), role, shares }
  const regions = machine.blocks.filter(isInMemory).map(({ region }) => region.id)
  enter(byMachine, machine, owner)
  for (const id of regions) enter(byRegion, id, owner)
  return () => {
    leave(byMachine, machine, owner)
    for (const id of regions) leave(byRegion, id, owner)
  }
}

/** @throws StateError `ERR_STATE_MACHINE_OWNED` if a migration owns the machine, or its memory */
export function refuseOwned(machine: MigratableMachine, shares = false): void {
  const owners = [
    byMachine.get(machine),
    ...machine.blocks.filter(isInMemory).map(({ region }) => byRegion.get(region.id)),
  ].flatMap((set) => [...(set ?? [])])
  const other = owners.find((owner) => !(shares && owner.shares))
  if (other === undefined) return
  const state = other.migration.deref()?.state ?? 'postcopy-paused'
  throw new StateError('ERR_STATE_MACHINE_OWNED', whyOwned(other.role, state), state)
}

function whyOwned(role: Owner['role'], state: MigrationState): string {
  const isSource = role === 'source'
  if (isSource && state === 'completed') {
    return 'the machine was migrated away by another migration: first close that migration, or take the guest back'
  }
  return isSource
    ? 'another migration is sending the machine: first wait for its end, or close it'
    : 'another migration is receiving the machine: wait until it has completed or failed'
}

function enter<K>(
  owners: { get(key: K): Set<Owner> | undefined; set(key: K, value: Set<Owner>): unknown },
  key: K,
  owner: Owner,
): void {
  const set = owners.get(key) ?? new Set()
  set.add(owner)
  owners.set(key, set)
}

function leave<K>(
  owners: { get(key: K): Set<Owner> | undefined; delete(key: K): unknown },
  key: K,
  owner: Owner,
): void {
  const set = owners.get(key)
  set?.delete(owner)
  if (set?.size === 0) owners.delete(key)
}

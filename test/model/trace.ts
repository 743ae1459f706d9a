/** Whether the model can produce the states that two real ends went through. */
import type { MigrationState } from '../../src/migration/states.js'
import type { Space } from './search.js'
import { type State, initialState } from './state.js'

/** What is visible from outside at one moment. */
export interface Sight {
  readonly source: MigrationState
  readonly destination: MigrationState
  readonly runsAtSource: boolean
  readonly runsAtDestination: boolean
}

function sameStates({ source, destination }: State, sight: Sight): boolean {
  return source.main === sight.source && destination.main === sight.destination
}

function isSeenAs(state: State, sight: Sight): boolean {
  const runsAtSource = state.source.guest !== 'stopped'
  const runsAtDestination = state.destination.guest === 'running'
  return (
    sameStates(state, sight) &&
    runsAtSource === sight.runsAtSource &&
    runsAtDestination === sight.runsAtDestination
  )
}

/**
 * Follows the sequence from its first sight on. Every change of an announced state was seen;
 * between two sights the model may take any steps that change none.
 *
 * @returns the index of the first sight that the model cannot reach; undefined if it reaches all
 */
export function firstStrange(space: Space, sights: readonly Sight[]): number | undefined {
  const at = (number: number): State => space.states[number] ?? initialState('running')
  const [first] = sights
  if (first === undefined) return undefined
  let possible = [...space.states.keys()].filter((number) => isSeenAs(at(number), first))
  if (possible.length === 0) return 0
  for (const [index, sight] of sights.entries()) {
    if (index === 0) continue
    const here = spread(space, possible, (state) => sameStates(state, sights[index - 1] ?? first))
    const there = spread(space, here, (state) => sameStates(state, sight))
    possible = there.filter((number) => isSeenAs(at(number), sight))
    if (possible.length === 0) return index
  }
  return undefined
}

/** The states of `from`, and all states that can be reached from them through states `within`. */
function spread(
  space: Space,
  from: readonly number[],
  within: (state: State) => boolean,
): number[] {
  const isKnown = new Uint8Array(space.states.length)
  const queue: number[] = []
  const found: number[] = []
  const look = (number: number): void => {
    if (isKnown[number] === 1) return
    isKnown[number] = 1
    const state = space.states[number]
    if (state === undefined || !within(state)) return
    found.push(number)
    queue.push(number)
  }
  for (const number of from) {
    look(number)
    space.forEachStep(number, (_, to) => {
      look(to)
    })
  }
  for (let next = queue.pop(); next !== undefined; next = queue.pop()) {
    space.forEachStep(next, (_, to) => {
      look(to)
    })
  }
  return found
}

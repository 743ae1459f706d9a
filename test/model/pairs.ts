/**
 * Which end may run the guest in each pair of announced states, as in the table of docs/safety.md.
 */
import type { MigrationState } from '../../src/migration/states.js'
import { mayRunAtDestination, mayRunAtSource, mayStandStill } from './promises.js'
import type { Space } from './search.js'
import { type State, initialState } from './state.js'

const sourceStates: readonly MigrationState[] = [
  'none',
  'setup',
  'active',
  'device',
  'postcopy-device',
  'postcopy-active',
  'postcopy-paused',
  'postcopy-recover-setup',
  'postcopy-recover',
  'completed',
  'cancelling',
  'cancelled',
  'failed',
]
/** A destination never stops a guest of its own, and cannot be cancelled. */
const destinationStates = sourceStates.filter(
  (state) => !['device', 'cancelling', 'cancelled'].includes(state),
)

export class Pairs {
  readonly #who = new Map<string, Set<string>>()
  /** Pairs in which neither end runs the guest and the program takes no further step. */
  readonly #standstill = new Set<string>()
  /** The steps between announced states that occurred. */
  readonly steps = new Set<string>()

  add(space: Space): void {
    space.states.forEach((state, number) => {
      const { source, destination } = state
      if (source.alive && destination.alive && !source.taken) this.#note(space, state, number)
      space.forEachStep(number, (_, to) => {
        const next = space.states[to] ?? initialState('running')
        this.#noteStep(source, next.source)
        this.#noteStep(destination, next.destination)
      })
    })
  }

  #note(space: Space, state: State, number: number): void {
    const pair = `${state.source.main} ${state.destination.main}`
    const who = mayRunAtSource(state) ? 'S' : mayRunAtDestination(state) ? 'D' : '–'
    const known = this.#who.get(pair) ?? new Set()
    this.#who.set(pair, known.add(who))
    const isOver = mayStandStill(state) && !space.goesOn(number)
    if (who === '–' && isOver) this.#standstill.add(pair)
  }

  #noteStep(from: State['source' | 'destination'], to: State['source' | 'destination']): void {
    if (from.alive && to.alive && from.main !== to.main) this.steps.add(`${from.main} ${to.main}`)
  }

  get count(): number {
    return this.#who.size
  }

  /** The table in cells; the first row and the first column are titles. */
  get table(): string[][] {
    const rows = sourceStates.map((source) => [
      `\`${source}\``,
      ...destinationStates.map((destination) => {
        const who = this.#who.get(`${source} ${destination}`) ?? new Set()
        return ['S', 'D', '–'].filter((one) => who.has(one)).join(' ')
      }),
    ])
    return [['source', ...destinationStates.map((state) => `\`${state}\``)], ...rows]
  }

  get standstill(): string[] {
    return [...this.#standstill].sort()
  }
}

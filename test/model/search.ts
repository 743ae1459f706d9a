/**
 * Breadth-first search of all reachable states, so the path to the first wrong
 * state is a shortest one.
 */
import { stepsOf } from './model.js'
import type { Rules, StepKind } from './rules.js'
import { type DestinationEnd, type SourceEnd, type State, initialState } from './state.js'

type End = SourceEnd | DestinationEnd
type Field = string | boolean

/** More than the number of distinct ends; keys stay exact numbers. */
const MOST_ENDS = 2 ** 24
/** `program` must be the first one, see {@link Space.goesOn}. */
const KINDS: readonly StepKind[] = ['program', 'command', 'decision', 'failure']

/** Keeps one object for all equal ends, so that two numbers identify a state. */
class Interner {
  readonly #ends = new Map<string, End>()
  readonly #numbers = new Map<End, number>()
  readonly #letters = new Map<Field, string>()

  intern<E extends End>(end: E): E {
    let key = ''
    for (const value of Object.values(end) as (Field | readonly Field[])[]) {
      key += this.#letterOf(value)
    }
    const known = this.#ends.get(key)
    if (known !== undefined) return known as E
    this.#ends.set(key, end)
    this.#numbers.set(end, this.#numbers.size)
    return end
  }

  /** Equal for equal states only. */
  keyOf({ source, destination, joined, wrong }: State): number {
    const left = this.#numbers.get(source) ?? 0
    const right = this.#numbers.get(destination) ?? 0
    return ((left * MOST_ENDS + right) * 2 + (joined ? 1 : 0)) * 2 + (wrong === '' ? 0 : 1)
  }

  /** One character for each value of any field: short keys are fast. */
  #letterOf(value: Field | readonly Field[]): string {
    const field = typeof value === 'object' ? value.join() : value
    let letter = this.#letters.get(field)
    if (letter === undefined) {
      letter = String.fromCharCode(this.#letters.size)
      this.#letters.set(field, letter)
    }
    return letter
  }
}

/**
 * Steps by target state: the latest step to each state, the one before each step, and its origin.
 */
interface Reverse {
  readonly latest: Int32Array
  readonly before: Int32Array
  readonly from: Int32Array
}

/** All reachable states, by number; 0 is the initial one. */
export class Space {
  readonly states: State[] = []
  /** The wrong state at which the search stopped. */
  wrong: { readonly state: number; readonly why: string } | undefined
  readonly #interner = new Interner()
  readonly #numbers = new Map<number, number>()
  readonly #cameFrom: number[] = []
  readonly #cameBy: string[] = []
  readonly #depths: number[] = []
  /** Kind and next state of every step, in one number, because there are many. */
  readonly #steps: number[] = []
  /** Where the steps from each state end in the list of all steps. */
  readonly #ends: number[] = []
  #reverse: Reverse | undefined

  constructor(rules: Rules, whatIsWrong: (state: State) => string) {
    const intern = this.#interner.intern.bind(this.#interner)
    const { source, destination, ...link } = initialState(rules.guest)
    const beginning = { source: intern(source), destination: intern(destination), ...link }
    this.#visit(beginning, -1, '', whatIsWrong)
    for (let from = 0; from < this.states.length && this.wrong === undefined; from += 1) {
      const state = this.states[from] ?? beginning
      for (const { kind, label, next } of stepsOf(state, rules)) {
        const to = this.#visit(next.finish(intern), from, label, whatIsWrong)
        this.#steps.push(to * KINDS.length + KINDS.indexOf(kind))
      }
      this.#ends.push(this.#steps.length)
    }
  }

  get stepCount(): number {
    return this.#steps.length
  }

  /** Number of steps to the farthest state. */
  get depth(): number {
    return this.#depths.at(-1) ?? 0
  }

  forEachStep(from: number, visit: (kind: StepKind, to: number) => void): void {
    for (let at = this.#ends[from - 1] ?? 0; at < (this.#ends[from] ?? 0); at += 1) {
      const step = this.#steps[at] ?? 0
      const kind = step % KINDS.length
      visit(KINDS[kind] ?? 'failure', (step - kind) / KINDS.length)
    }
  }

  /** Whether the program takes another step by itself. */
  goesOn(from: number): boolean {
    for (let at = this.#ends[from - 1] ?? 0; at < (this.#ends[from] ?? 0); at += 1) {
      if ((this.#steps[at] ?? 0) % KINDS.length === 0) return true
    }
    return false
  }

  /** Visits the steps that lead to a state. */
  forEachStepTo(to: number, visit: (kind: StepKind, from: number) => void): void {
    const { latest, before, from } = (this.#reverse ??= this.#turn())
    for (let at = latest[to] ?? -1; at !== -1; at = before[at] ?? -1) {
      visit(KINDS[(this.#steps[at] ?? 0) % KINDS.length] ?? 'failure', from[at] ?? 0)
    }
  }

  #turn(): Reverse {
    const latest = new Int32Array(this.states.length).fill(-1)
    const before = new Int32Array(this.#steps.length)
    const from = new Int32Array(this.#steps.length)
    this.#ends.forEach((end, state) => {
      for (let at = this.#ends[state - 1] ?? 0; at < end; at += 1) {
        const to = Math.floor((this.#steps[at] ?? 0) / KINDS.length)
        from[at] = state
        before[at] = latest[to] ?? -1
        latest[to] = at
      }
    })
    return { latest, before, from }
  }

  /** The labels of the steps on a shortest path to a state. */
  way(state: number): string[] {
    const labels: string[] = []
    for (let at = state; at > 0; at = this.#cameFrom[at] ?? 0)
      labels.unshift(this.#cameBy[at] ?? '')
    return labels
  }

  #visit(state: State, from: number, label: string, whatIsWrong: (state: State) => string): number {
    const key = this.#interner.keyOf(state)
    const known = this.#numbers.get(key)
    if (known !== undefined) return known
    const number = this.states.length
    this.#numbers.set(key, number)
    this.states.push(state)
    this.#cameFrom.push(from)
    this.#cameBy.push(label)
    this.#depths.push((this.#depths[from] ?? -1) + 1)
    const why = whatIsWrong(state)
    if (why !== '') this.wrong ??= { state: number, why }
    return number
  }
}

export function explore(rules: Rules, whatIsWrong: (state: State) => string): Space {
  return new Space(rules, whatIsWrong)
}

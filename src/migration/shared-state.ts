/**
 * One of a few named states in shared memory. Two threads change it by compare-and-exchange only.
 */
export class SharedState<Name extends string> {
  readonly buffer: SharedArrayBuffer
  readonly #word: Int32Array
  readonly #names: readonly Name[]

  /**
   * @param names - the first one is the initial state
   * @param buffer - the buffer of another thread's object with the same names; default: a new one
   */
  constructor(names: readonly [Name, ...Name[]], buffer: SharedArrayBuffer | undefined) {
    this.#names = names
    this.buffer = buffer ?? new SharedArrayBuffer(4)
    this.#word = new Int32Array(this.buffer)
  }

  get current(): Name {
    return this.#nameOf(Atomics.load(this.#word, 0))
  }

  /** Enters `to` if the state is `from`, atomically. @returns the previous state */
  exchange(from: Name, to: Name): Name {
    const [old, next] = [this.#names.indexOf(from), this.#names.indexOf(to)]
    return this.#nameOf(Atomics.compareExchange(this.#word, 0, old, next))
  }

  /** Enters `to` if the current state is one of `from`, tried in order. @returns whether it was */
  exchangeAny(from: readonly Name[], to: Name): boolean {
    return from.some((one) => this.exchange(one, to) === one)
  }

  #nameOf(value: number): Name {
    const name = this.#names[value]
    if (name === undefined) throw new RangeError(`no shared state ${value}`)
    return name
  }
}

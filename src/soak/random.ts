/** Random choices that a seed reproduces. */

const MODULUS = 2 ** 31 - 1
/** The multiplier of MINSTD; products stay exact in a double. */
const FACTOR = 48271

export class Random {
  #state: number

  /** @param stream - selects independent choices from one seed, such as those of one leg */
  constructor(seed: number, stream: number) {
    this.#state = 1 + ((seed * 7919 + stream * 104_729) % (MODULUS - 1))
    for (let warm = 0; warm < 8; warm += 1) this.next()
  }

  /** A number of at least 0 and below 1. */
  next(): number {
    this.#state = (this.#state * FACTOR) % MODULUS
    return this.#state / MODULUS
  }

  /** A whole number from `least` to `most`, both included. */
  integer(least: number, most: number): number {
    return least + Math.floor(this.next() * (most - least + 1))
  }

  /**
   * A whole number from `least` to `most`, log-uniform: every order of
   * magnitude is equally likely.
   */
  magnitude(least: number, most: number): number {
    return Math.round(least * (most / least) ** this.next())
  }

  chance(share: number): boolean {
    return this.next() < share
  }

  /** One element of a list. */
  pick<T>(from: readonly [T, ...T[]]): T {
    return from[this.integer(0, from.length - 1)] ?? from[0]
  }
}

/** Choices that a seed repeats. */

const MODULUS = 2 ** 31 - 1
/** MINSTD; products stay exact in a double. */
const FACTOR = 48271

export class Random {
  #state: number

  /** @param stream - different choices out of one seed, such as those of one leg */
  constructor(seed: number, stream: number) {
    this.#state = 1 + ((seed * 7919 + stream * 104_729) % (MODULUS - 1))
    for (let warm = 0; warm < 8; warm += 1) this.next()
  }

  /** From 0 to below 1. */
  next(): number {
    this.#state = (this.#state * FACTOR) % MODULUS
    return this.#state / MODULUS
  }

  /** A whole number, both ends included. */
  integer(least: number, most: number): number {
    return least + Math.floor(this.next() * (most - least + 1))
  }

  /** As likely to be below 10 as to be a thousand times more. */
  magnitude(least: number, most: number): number {
    return Math.round(least * (most / least) ** this.next())
  }

  chance(share: number): boolean {
    return this.next() < share
  }

  /** One of some, of which there is at least one. */
  pick<T>(from: readonly [T, ...T[]]): T {
    return from[this.integer(0, from.length - 1)] ?? from[0]
  }
}

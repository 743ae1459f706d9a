/** How often pages are asked for, over the last moments. */

/** From here on more comes by requests than by what is pushed behind them. */
const STORM_REQUESTS_PER_MS = 4
/** A request counts for less as time passes: after so long for a third. */
const MEMORY_MS = 10

export class RequestRate {
  #weight = 0
  #atMs = -Infinity

  /** A page is asked for. */
  note(atMs: number): void {
    this.#weight = 1 + this.#weightAt(atMs)
    this.#atMs = atMs
  }

  /** Many wait, or few so often, that a short queue serves them better than a fast push. */
  isStorm(atMs: number): boolean {
    return this.#weightAt(atMs) > STORM_REQUESTS_PER_MS * MEMORY_MS
  }

  #weightAt(atMs: number): number {
    return this.#weight * Math.exp((this.#atMs - atMs) / MEMORY_MS)
  }
}

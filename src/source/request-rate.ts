/** How often pages were requested recently. */

/** Above this rate, requests transfer more pages than the push between them does. */
const STORM_REQUESTS_PER_MS = 4
/** The weight of a request falls to 1/e in this time. */
const MEMORY_MS = 10

export class RequestRate {
  #weight = 0
  #atMs = -Infinity

  /** Counts a request. */
  note(atMs: number): void {
    this.#weight = 1 + this.#weightAt(atMs)
    this.#atMs = atMs
  }

  /** So many requests that a short queue serves them better than a fast push. */
  isStorm(atMs: number): boolean {
    return this.#weightAt(atMs) > STORM_REQUESTS_PER_MS * MEMORY_MS
  }

  #weightAt(atMs: number): number {
    return this.#weight * Math.exp((this.#atMs - atMs) / MEMORY_MS)
  }
}

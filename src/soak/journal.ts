/** The log of a leg that is printed on failure: every decision, command and state. */

/** One leg with six breaks has some dozens of states. */
const MOST_LINES = 2000

export class Journal {
  readonly #lines: string[] = []
  readonly #tell: ((line: string) => void) | undefined
  #startedAt = performance.now()

  /** @param tell - called with each line at once */
  constructor(tell?: (line: string) => void) {
    this.#tell = tell
  }

  /** Begins a leg: the lines of the last one are dropped, because it went well. */
  restart(): void {
    this.#lines.length = 0
    this.#startedAt = performance.now()
  }

  note(text: string): void {
    const atMs = (performance.now() - this.#startedAt).toFixed(1)
    const line = `${atMs.padStart(9)} ms  ${text}`
    this.#lines.push(line)
    this.#tell?.(line)
    if (this.#lines.length > MOST_LINES) this.#lines.shift()
  }

  get text(): string {
    return this.#lines.join('\n')
  }
}

/** What a failure has to say about itself: every decision, command and state of the leg. */

/** The states of one leg with six breaks are some dozens. */
const MOST_LINES = 2000

export class Journal {
  readonly #lines: string[] = []
  readonly #tell: ((line: string) => void) | undefined
  #startedAt = performance.now()

  /** @param tell - is told each line as it comes */
  constructor(tell?: (line: string) => void) {
    this.#tell = tell
  }

  /** A leg begins: what was before has gone well. */
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

/** What a long command says on stderr: lines that stay, and on a terminal one that changes. */
export class StatusLine {
  readonly #out: NodeJS.WriteStream
  #timer: NodeJS.Timeout | undefined
  #hasLine = false

  constructor(out: NodeJS.WriteStream = process.stderr) {
    this.#out = out
  }

  /** A line that stays. */
  note(text: string): void {
    this.#clear()
    this.#out.write(`postcopy: ${text}\n`)
  }

  /** Shows `describe()` again and again, on a terminal only; nothing where it is empty. */
  follow(describe: () => string): void {
    if (!this.#out.isTTY) return
    this.#timer ??= setInterval(() => {
      const text = describe()
      if (text === '') return
      this.#clear()
      this.#out.write(`  ${text}`)
      this.#hasLine = true
    }, 200)
  }

  /** Leaves a clean line behind. May be called twice. */
  end(): void {
    clearInterval(this.#timer)
    this.#clear()
  }

  #clear(): void {
    if (this.#hasLine) this.#out.write('\r\x1b[K')
    this.#hasLine = false
  }
}

/** What a long command says on stderr: lines that stay, and on a terminal one that changes. */
import { output } from './output.js'

const INTERVAL_MS = 200

export class StatusLine {
  #timer: NodeJS.Timeout | undefined

  /** A line that stays. */
  note(text: string): void {
    output.note(text)
  }

  /** Shows `describe()` again and again, on a terminal only; nothing where it is empty. */
  follow(describe: () => string): void {
    if (!output.hasTerminal) return
    this.#timer ??= setInterval(() => {
      const text = describe()
      if (text !== '') output.showLine(`  ${text}`)
    }, INTERVAL_MS)
  }

  /** May be called twice. */
  end(): void {
    clearInterval(this.#timer)
    output.clearLine()
  }
}

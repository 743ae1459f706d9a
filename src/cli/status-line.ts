/** A long command's messages on stderr: permanent lines, and on a terminal a changing one. */
import { output } from './output.js'

const INTERVAL_MS = 200

export class StatusLine {
  #timer: NodeJS.Timeout | undefined

  /** Prints a permanent line. */
  note(text: string): void {
    output.note(text)
  }

  /** Shows `describe()` repeatedly, on a terminal only; shows nothing if it is empty. */
  follow(describe: () => string): void {
    if (!output.hasTerminal) return
    this.#timer ??= setInterval(() => {
      const text = describe()
      if (text !== '') output.showLine(`  ${text}`)
    }, INTERVAL_MS)
  }

  /** May be called twice; {@link follow} begins again. */
  end(): void {
    clearInterval(this.#timer)
    this.#timer = undefined
    output.clearLine()
  }
}

/** Limits the messages about rejected connections, so that a stranger cannot fill a log. */
import type { PostcopyError } from '../errors.js'

/** How many are printed one by one; a summary counts the others. */
export const REFUSALS_SHOWN = 10
const SUMMARY_MS = 10_000

export interface RefusalSink {
  one(error: PostcopyError): void
  /** @param count - further connections that were rejected; `last` is the latest */
  more(count: number, last: PostcopyError): void
}

export class RefusalLog {
  readonly #sink: RefusalSink
  readonly #summaryMs: number
  #shown = 0
  #hidden = 0
  #last: PostcopyError | undefined
  #timer: NodeJS.Timeout | undefined

  /** @param summaryMs - time from the first printed message to the summary of the others */
  constructor(sink: RefusalSink, summaryMs = SUMMARY_MS) {
    this.#sink = sink
    this.#summaryMs = summaryMs
  }

  note(error: PostcopyError): void {
    this.#timer ??= setTimeout(() => this.flush(), this.#summaryMs).unref()
    if (this.#shown < REFUSALS_SHOWN) {
      this.#shown += 1
      this.#sink.one(error)
      return
    }
    this.#hidden += 1
    this.#last = error
  }

  /** Prints the summary; after that, messages are printed one by one again. */
  flush(): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
    if (this.#last !== undefined) this.#sink.more(this.#hidden, this.#last)
    this.#shown = 0
    this.#hidden = 0
    this.#last = undefined
  }
}

/** As text: `rejected: …`. */
export function describeRefusal({ code, message }: PostcopyError): string {
  return `rejected: ${message} [${code}]`
}

export function describeRefusals(count: number, last: PostcopyError): string {
  return `rejected ${count} more connections, the last of them: ${last.message} [${last.code}]`
}

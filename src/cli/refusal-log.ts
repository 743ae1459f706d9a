/** What is printed of rejected connections: a stranger must not fill a log. */
import type { PostcopyError } from '../errors.js'

/** So many are printed one by one; then one line tells how many more there were. */
export const REFUSALS_SHOWN = 10
const SUMMARY_MS = 10_000

export interface RefusalSink {
  one(error: PostcopyError): void
  /** @param count - connections that were rejected besides; `last` is the latest */
  more(count: number, last: PostcopyError): void
}

export class RefusalLog {
  readonly #sink: RefusalSink
  readonly #summaryMs: number
  #shown = 0
  #hidden = 0
  #last: PostcopyError | undefined
  #timer: NodeJS.Timeout | undefined

  /** @param summaryMs - from the first one that is printed to the line about those that were not */
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

  /** Tells of those that were not printed; the next ones are printed one by one again. */
  flush(): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
    if (this.#last !== undefined) this.#sink.more(this.#hidden, this.#last)
    this.#shown = 0
    this.#hidden = 0
    this.#last = undefined
  }
}

/** In words: `turned away: …`. */
export function describeRefusal({ code, message }: PostcopyError): string {
  return `turned away: ${message} [${code}]`
}

export function describeRefusals(count: number, last: PostcopyError): string {
  return `turned away ${count} more connections, the last of them: ${last.message} [${last.code}]`
}

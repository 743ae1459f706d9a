/**
 * Guesses which pages will be requested next. Requests at an even distance (forward, backward, or
 * some pages apart) form a stream. After each request that continues a stream, the next pages are
 * sent ahead. Each confirmed guess doubles the size of the next one.
 *
 * A destination requests only pages that it does not have. So a stream with good guesses continues
 * with a request right after the last guess. A stream with bad guesses gets no further request: it
 * is dropped in favour of others, and has cost no more than its last guess.
 */

/** Streams tracked at one time: a few per vCPU. */
const STREAMS = 16
/** Requests that fit no stream, and may start one. */
const STRAY = 16
/** Largest distance in pages between related requests. */
const FARTHEST = 64
/** Pages in the first guess of a stream. */
const FIRST_GUESS = 8

/** Guessed host pages of one block: `count` pages from `first` on, `stride` apart. */
export interface Guess {
  readonly first: number
  readonly stride: number
  readonly count: number
}

interface Stream {
  stride: number
  /** The next page that would continue the stream. */
  next: number
  guessed: number
}

/** The streams of one block. */
export class ReadAhead {
  readonly #streams: Stream[] = []
  readonly #strays: number[] = []

  /**
   * Takes a request for a host page.
   *
   * @param most - largest guess in pages
   * @returns the pages to send ahead after it; undefined if there is no guess
   */
  guess(page: number, most: number): Guess | undefined {
    const stream = this.#find(page) ?? this.#begin(page)
    if (stream === undefined) return undefined
    const { stride, guessed, next } = stream
    const count = Math.min(most, guessed === 0 ? FIRST_GUESS : guessed * 2)
    // Already guessed pages are not guessed again, even if one of them was requested.
    const first = (page - next) / stride < 0 ? next : page + stride
    stream.guessed = count
    stream.next = first + count * stride
    return { first, stride, count }
  }

  /** A page of the last guess may be requested, too, because it was still in flight. */
  #find(page: number): Stream | undefined {
    const index = this.#streams.findIndex(({ stride, next, guessed }) => {
      const steps = (page - next) / stride
      return Number.isInteger(steps) && steps >= -guessed && steps <= 1
    })
    const [stream] = index === -1 ? [] : this.#streams.splice(index, 1)
    // Least recently used first.
    if (stream !== undefined) this.#streams.push(stream)
    return stream
  }

  #begin(page: number): Stream | undefined {
    const stride = this.#strideTo(page)
    this.#strays.push(page)
    if (this.#strays.length > STRAY) this.#strays.shift()
    if (stride === undefined) return undefined
    const stream = { stride, next: page, guessed: 0 }
    this.#streams.push(stream)
    if (this.#streams.length > STREAMS) this.#streams.shift()
    return stream
  }

  /** The distance to an earlier request, if that has the same distance to another one. */
  #strideTo(page: number): number | undefined {
    for (const before of this.#strays.toReversed()) {
      const stride = page - before
      if (stride === 0 || Math.abs(stride) > FARTHEST) continue
      if (this.#strays.includes(before - stride)) return stride
    }
    return undefined
  }
}

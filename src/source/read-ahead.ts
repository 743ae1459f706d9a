/**
 * Guesses which pages will be asked for next. Requests that follow each other at an even distance
 * (forward, backward, or some pages apart) are a stream; behind each request that goes on with it
 * the next pages are sent unasked. The more often a guess is confirmed, the further it reaches.
 *
 * A destination asks only for what it does not have. So a stream whose guesses were good goes on
 * with a request right behind the last guess, and one whose guesses were bad never asks again:
 * it is forgotten for the sake of others, and has cost no more than its last guess.
 */

/** Streams that are known at one time: some vCPUs, each with some. */
const STREAMS = 16
/** Requests that fit no stream, and may be the start of one. */
const STRAY = 16
/** Pages between two requests that still have to do with each other. */
const FARTHEST = 64
/** Pages of the first guess. */
const FIRST_GUESS = 8

/** Guessed pages: `count` of them from `first` on, `stride` apart. All in host pages of one block. */
export interface Guess {
  readonly first: number
  readonly stride: number
  readonly count: number
}

interface Stream {
  stride: number
  /** The next page that a request must have to go on with it. */
  next: number
  guessed: number
}

/** Of one block. */
export class ReadAhead {
  readonly #streams: Stream[] = []
  readonly #strays: number[] = []

  /**
   * A host page is asked for.
   *
   * @param most - pages of a guess
   * @returns what to send behind it; undefined where nothing can be guessed
   */
  guess(page: number, most: number): Guess | undefined {
    const stream = this.#find(page) ?? this.#begin(page)
    if (stream === undefined) return undefined
    const { stride, guessed, next } = stream
    const count = Math.min(most, guessed === 0 ? FIRST_GUESS : guessed * 2)
    // What was guessed already is not guessed again, even if it was asked for all the same.
    const first = (page - next) / stride < 0 ? next : page + stride
    stream.guessed = count
    stream.next = first + count * stride
    return { first, stride, count }
  }

  /** What was guessed last may be asked for all the same: it was on its way. */
  #find(page: number): Stream | undefined {
    const index = this.#streams.findIndex(({ stride, next, guessed }) => {
      const steps = (page - next) / stride
      return Number.isInteger(steps) && steps >= -guessed && steps <= 1
    })
    const [stream] = index === -1 ? [] : this.#streams.splice(index, 1)
    // The one that was used last goes last.
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

  /** The distance that the last two requests before this one have, too. */
  #strideTo(page: number): number | undefined {
    for (const before of this.#strays.toReversed()) {
      const stride = page - before
      if (stride === 0 || Math.abs(stride) > FARTHEST) continue
      if (this.#strays.includes(before - stride)) return stride
    }
    return undefined
  }
}

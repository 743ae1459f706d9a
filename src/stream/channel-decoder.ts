import { refuse } from './errors.js'

/** What {@link ChannelDecoder.step} returns when the next element is not all there. */
export const INCOMPLETE = -1

/**
 * The part that all incremental decoders share: how bytes come in, where they are in the
 * channel, and what happens after an error.
 *
 * The caller owns the receive buffer. Whatever {@link write} did not consume has to be
 * presented again, with more bytes behind it.
 */
export abstract class ChannelDecoder {
  /** Bytes consumed since the channel was opened. */
  get streamOffset(): number {
    return this.#consumed
  }

  /** The channel has said all it has to say; another byte is an error. */
  get finished(): boolean {
    return this.isFinished
  }

  /** {@link stop} was called since {@link write} was. */
  get stopped(): boolean {
    return this.#stopped
  }

  /** Add to an index into the current input to get an offset in the channel. */
  protected base = 0
  protected isFinished = false

  #consumed = 0
  #busy = false
  #stopped = false
  #failure: { readonly error: unknown } | undefined

  /**
   * Decodes as much as it can of `bytes[start..end)` and calls the handler.
   *
   * @returns bytes consumed. What is left starts an element that is not all there; it is below
   *   {@link MAX_LOOK_AHEAD_BYTES}, unless {@link stop} was called
   * @throws StreamError; from then on every call throws it again. What a handler throws passes
   *   through and ends the decoder the same way
   */
  write(bytes: Uint8Array, start = 0, end = bytes.length): number {
    this.#enter()
    this.base = this.#consumed - start
    this.#stopped = false
    let at = start
    try {
      while (at < end && !this.stopped) {
        if (this.isFinished) refuse('element', 'bytes behind the end', this.base + at)
        const next = this.step(bytes, at, end)
        if (next === INCOMPLETE) break
        at = next
      }
    } catch (error) {
      this.#failure = { error }
      throw error
    } finally {
      this.#busy = false
      this.#consumed = this.base + at
    }
    return at - start
  }

  /**
   * Tells that the channel has ended.
   *
   * @param leftover - bytes that {@link write} did not consume
   * @throws StreamError `ERR_STREAM_TRUNCATED` where it must not end
   */
  end(leftover = 0): void {
    this.#enter()
    try {
      if (!this.isFinished) this.finish(leftover)
    } catch (error) {
      this.#failure = { error }
      throw error
    } finally {
      this.#busy = false
    }
  }

  /**
   * For handlers: makes the running {@link write} return behind the current element, or before
   * the record at which `ramRecords` stopped.
   */
  stop(): void {
    this.#stopped = true
  }

  /** Consumes at least one byte of `bytes[at..end)` and returns the new index, or INCOMPLETE. */
  protected abstract step(bytes: Uint8Array, at: number, end: number): number

  /** Takes the end of the channel, or throws. */
  protected abstract finish(leftover: number): void

  #enter(): void {
    if (this.#failure !== undefined) throw this.#failure.error
    if (this.#busy) throw new TypeError('a handler must not call its own decoder')
    this.#busy = true
  }
}

/** No element, payloads that are taken progressively aside, is longer. */
export const MAX_LOOK_AHEAD_BYTES = 5 + 0xffff

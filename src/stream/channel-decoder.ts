import { refuse } from './errors.js'

/** Result of {@link ChannelDecoder.step} if the next element is incomplete. */
export const INCOMPLETE = -1

/**
 * Base of all incremental decoders: input, offsets in the channel, and the state after an error.
 *
 * The caller owns the receive buffer. Bytes that {@link write} did not consume must be passed
 * again, followed by more bytes.
 */
export abstract class ChannelDecoder {
  /** Bytes consumed since the channel was opened. */
  get streamOffset(): number {
    return this.#consumed
  }

  /** Whether the last element was decoded; another byte is an error. */
  get finished(): boolean {
    return this.isFinished
  }

  /** Whether {@link stop} was called since the last call of {@link write}. */
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
   * @returns bytes consumed. The rest is the start of an incomplete element, and has fewer than
   *   {@link MAX_LOOK_AHEAD_BYTES} bytes unless {@link stop} was called
   * @throws StreamError; from then on every call throws it again. An exception of a handler passes
   *   through, and ends the decoder in the same way
   */
  write(bytes: Uint8Array, start = 0, end = bytes.length): number {
    this.#enter()
    this.base = this.#consumed - start
    this.#stopped = false
    let at = start
    try {
      while (at < end && !this.stopped) {
        if (this.isFinished) refuse('element', 'bytes after the end', this.base + at)
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
   * Ends the input: the channel has closed.
   *
   * @param leftover - bytes that {@link write} did not consume
   * @throws StreamError `ERR_STREAM_TRUNCATED` if the stream must not end here
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
   * For handlers: makes the running {@link write} return after the current element, or before the
   * record at which `ramRecords` stopped.
   */
  stop(): void {
    this.#stopped = true
  }

  /** Consumes at least one byte of `bytes[at..end)` and returns the new index, or INCOMPLETE. */
  protected abstract step(bytes: Uint8Array, at: number, end: number): number

  /** Accepts the end of the channel, or throws. */
  protected abstract finish(leftover: number): void

  #enter(): void {
    if (this.#failure !== undefined) throw this.#failure.error
    if (this.#busy) throw new TypeError('a handler must not call its own decoder')
    this.#busy = true
  }
}

/** The longest element, except for payloads that are consumed as they arrive. */
export const MAX_LOOK_AHEAD_BYTES = 5 + 0xffff

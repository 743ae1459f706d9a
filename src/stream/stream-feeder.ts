import type { ChannelDecoder } from './channel-decoder.js'
import { copyOf } from './reader.js'

/**
 * Feeds a decoder with chunks and keeps what it leaves over, for callers who have no receive
 * buffer of their own. Copies every chunk that does not begin at an element.
 */
export class StreamFeeder {
  readonly #decoder: ChannelDecoder
  #leftover: Uint8Array = new Uint8Array()

  constructor(decoder: ChannelDecoder) {
    this.#decoder = decoder
  }

  /** Bytes that wait for more. */
  get leftoverBytes(): number {
    return this.#leftover.length
  }

  /**
   * Takes a chunk, which can be used again afterwards.
   *
   * @throws StreamError
   */
  push(chunk: Uint8Array): void {
    const isFresh = this.#leftover.length === 0
    const bytes = isFresh ? chunk : concatenate(this.#leftover, chunk)
    const consumed = this.#decoder.write(bytes)
    this.#leftover = isFresh ? copyOf(bytes, consumed, bytes.length) : bytes.subarray(consumed)
  }

  /** Tells that no chunk follows. @throws StreamError where the stream is incomplete */
  end(): void {
    this.#decoder.end(this.#leftover.length)
  }
}

function concatenate(first: Uint8Array, second: Uint8Array): Uint8Array {
  const both = new Uint8Array(first.length + second.length)
  both.set(first)
  both.set(second, first.length)
  return both
}

import { type ChannelDecoder, MAX_LOOK_AHEAD_BYTES } from './channel-decoder.js'

/** Once empty, a larger buffer is released; a single large chunk may have made it grow. */
const KEPT_BYTES = 2 * MAX_LOOK_AHEAD_BYTES

/**
 * Feeds a decoder with chunks and keeps the unconsumed bytes, for callers without a receive buffer.
 * Copies every chunk that does not begin with a new element.
 */
export class StreamFeeder {
  readonly #decoder: ChannelDecoder
  #buffer = new Uint8Array()
  #head = 0
  #tail = 0

  constructor(decoder: ChannelDecoder) {
    this.#decoder = decoder
  }

  /** Bytes of an incomplete element. */
  get leftoverBytes(): number {
    return this.#tail - this.#head
  }

  /**
   * Takes a chunk. The caller can reuse its memory afterwards.
   *
   * @throws StreamError
   */
  push(chunk: Uint8Array): void {
    if (this.leftoverBytes === 0) {
      this.#append(chunk, this.#decoder.write(chunk))
      return
    }
    this.#append(chunk, 0)
    this.#head += this.#decoder.write(this.#buffer, this.#head, this.#tail)
    if (this.leftoverBytes > 0) return
    this.#head = 0
    this.#tail = 0
    if (this.#buffer.length > KEPT_BYTES) this.#buffer = new Uint8Array()
  }

  /** Ends the input. @throws StreamError if the stream is incomplete */
  end(): void {
    this.#decoder.end(this.leftoverBytes)
  }

  #append(chunk: Uint8Array, start: number): void {
    const count = chunk.length - start
    if (count === 0) return
    if (this.#tail + count > this.#buffer.length) this.#makeRoom(count)
    this.#buffer.set(chunk.subarray(start), this.#tail)
    this.#tail += count
  }

  /** Doubles the buffer: otherwise each small chunk would copy all waiting bytes. */
  #makeRoom(count: number): void {
    const waiting = this.leftoverBytes
    const isRoomy = 2 * (waiting + count) <= this.#buffer.length
    const target = isRoomy ? this.#buffer : new Uint8Array(2 * (waiting + count))
    target.set(this.#buffer.subarray(this.#head, this.#tail))
    this.#buffer = target
    this.#head = 0
    this.#tail = waiting
  }
}

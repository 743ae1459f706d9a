import { type ChannelDecoder, MAX_LOOK_AHEAD_BYTES } from './channel-decoder.js'

/** A buffer that one large chunk has made larger is not kept. */
const KEPT_BYTES = 2 * MAX_LOOK_AHEAD_BYTES

/**
 * Feeds a decoder with chunks and keeps what it leaves over, for callers who have no receive
 * buffer of their own. Copies every chunk that does not begin at an element.
 */
export class StreamFeeder {
  readonly #decoder: ChannelDecoder
  #buffer = new Uint8Array()
  #head = 0
  #tail = 0

  constructor(decoder: ChannelDecoder) {
    this.#decoder = decoder
  }

  /** Bytes that wait for more. */
  get leftoverBytes(): number {
    return this.#tail - this.#head
  }

  /**
   * Takes a chunk, which can be used again afterwards.
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

  /** Tells that no chunk follows. @throws StreamError where the stream is incomplete */
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

  /** Small pieces must not cost a copy of all that waits each: the buffer doubles. */
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

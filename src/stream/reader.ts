import { refuse } from './errors.js'
import { decodeName } from './names.js'
import { hex } from '../units.js'

/** Reads a u16 without a bounds check; the caller must have checked the bounds. */
export function u16At(bytes: Uint8Array, at: number): number {
  return ((bytes[at] ?? 0) << 8) | (bytes[at + 1] ?? 0)
}

/** Reads a u32 without a bounds check; the caller must have checked the bounds. */
export function u32At(bytes: Uint8Array, at: number): number {
  return (
    (((bytes[at] ?? 0) << 24) |
      ((bytes[at + 1] ?? 0) << 16) |
      ((bytes[at + 2] ?? 0) << 8) |
      (bytes[at + 3] ?? 0)) >>>
    0
  )
}

/** Copies into a plain Uint8Array; `slice` of a Buffer would be a view. */
export function copyOf(bytes: Uint8Array, start: number, end: number): Uint8Array<ArrayBuffer> {
  return new Uint8Array(bytes.subarray(start, end))
}

/**
 * Reads big-endian fields from complete bytes. Reading beyond the end throws a StreamError
 * (`ERR_STREAM_TRUNCATED`) at the field's offset.
 */
export class Reader {
  readonly #bytes: Uint8Array
  readonly #streamOffset: number
  readonly #start: number
  readonly #end: number
  #at: number

  /**
   * @param streamOffset - offset of `bytes[start]` in its channel, for errors
   */
  constructor(bytes: Uint8Array, streamOffset = 0, start = 0, end = bytes.length) {
    this.#bytes = bytes
    this.#streamOffset = streamOffset - start
    this.#start = start
    this.#end = end
    this.#at = start
  }

  /** Bytes read so far. */
  get position(): number {
    return this.#at - this.#start
  }

  /** Bytes left. */
  get remaining(): number {
    return this.#end - this.#at
  }

  /** Offset of the next byte in the channel. */
  get streamOffset(): number {
    return this.#streamOffset + this.#at
  }

  /** The next byte, without consuming it; undefined at the end. */
  peek(): number | undefined {
    return this.#at < this.#end ? this.#bytes[this.#at] : undefined
  }

  u8(): number {
    return this.#bytes[this.#take(1)] ?? 0
  }

  u16(): number {
    return u16At(this.#bytes, this.#take(2))
  }

  u32(): number {
    return u32At(this.#bytes, this.#take(4))
  }

  /** Reads a u64 as a number; throws `ERR_STREAM_NUMBER` for 2^53 and above. */
  u64(): number {
    const offset = this.streamOffset
    const high = this.u32()
    const low = this.u32()
    if (high >= 2 ** 21) refuse('number', `${hex(high)}:${hex(low)} is too large`, offset)
    return high * 2 ** 32 + low
  }

  /** A view of the next `count` bytes. */
  bytes(count: number): Uint8Array {
    const at = this.#take(count)
    return this.#bytes.subarray(at, at + count)
  }

  /** A name of `count` bytes; see {@link decodeName}. */
  name(count: number): string {
    const at = this.#take(count)
    return decodeName(this.#bytes, at, at + count)
  }

  /** u8 length, then a name of that many bytes. */
  str8(): string {
    return this.name(this.u8())
  }

  #take(count: number): number {
    const at = this.#at
    if (!Number.isInteger(count) || count < 0) throw new RangeError(`cannot read ${count} bytes`)
    if (count > this.#end - at) {
      const left = this.#end - at
      refuse('truncated', `${count} bytes wanted, ${left} left`, this.#streamOffset + at)
    }
    this.#at = at + count
    return at
  }
}

import { encodeName } from './names.js'

/** A growing buffer of big-endian fields. Throws RangeError if a value does not fit its field. */
export class Writer {
  #bytes: Uint8Array<ArrayBuffer>
  #view: DataView<ArrayBuffer>
  #length = 0

  constructor(capacityBytes = 256) {
    this.#bytes = new Uint8Array(capacityBytes)
    this.#view = new DataView(this.#bytes.buffer)
  }

  /** Bytes written so far. */
  get length(): number {
    return this.#length
  }

  u8(value: number): this {
    const at = this.#field(value, 1, 0xff)
    this.#bytes[at] = value
    return this
  }

  u16(value: number): this {
    const at = this.#field(value, 2, 0xffff)
    this.#view.setUint16(at, value)
    return this
  }

  u32(value: number): this {
    const at = this.#field(value, 4, 0xffffffff)
    this.#view.setUint32(at, value)
    return this
  }

  u64(value: number): this {
    const at = this.#field(value, 8, Number.MAX_SAFE_INTEGER)
    this.#view.setUint32(at, Math.floor(value / 2 ** 32))
    this.#view.setUint32(at + 4, value >>> 0)
    return this
  }

  bytes(source: Uint8Array): this {
    const at = this.#grow(source.length)
    this.#bytes.set(source, at)
    return this
  }

  /** u8 length, then the name's bytes; see {@link encodeName}. */
  str8(name: string): this {
    const bytes = encodeName(name)
    if (bytes.length > 0xff) throw new RangeError(`"${name}" is longer than 255 bytes`)
    return this.u8(bytes.length).bytes(bytes)
  }

  /** u32 length, then the name's bytes. */
  str32(name: string): this {
    const bytes = encodeName(name)
    return this.u32(bytes.length).bytes(bytes)
  }

  /** Returns the written bytes as a copy, and empties the writer. */
  take(): Uint8Array<ArrayBuffer> {
    const taken = this.#bytes.slice(0, this.#length)
    this.#length = 0
    return taken
  }

  /** The written bytes, as a view that the next write invalidates. */
  peek(): Uint8Array<ArrayBuffer> {
    return this.#bytes.subarray(0, this.#length)
  }

  /** Empties the writer and keeps its memory. */
  clear(): void {
    this.#length = 0
  }

  #field(value: number, widthBytes: number, max: number): number {
    if (!Number.isInteger(value) || value < 0 || value > max) {
      throw new RangeError(`${value} does not fit a field of ${widthBytes} bytes`)
    }
    return this.#grow(widthBytes)
  }

  #grow(count: number): number {
    const at = this.#length
    this.#length += count
    if (this.#length > this.#bytes.length) {
      const grown = new Uint8Array(Math.max(this.#length, this.#bytes.length * 2))
      grown.set(this.#bytes.subarray(0, at))
      this.#bytes = grown
      this.#view = new DataView(grown.buffer)
    }
    return at
  }
}

/** The bytes that `build` writes: `encode((out) => { encodePing(out, 1) })`. */
export function encode(build: (out: Writer) => void): Uint8Array<ArrayBuffer> {
  const out = new Writer()
  build(out)
  return out.take()
}

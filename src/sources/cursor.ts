/**
 * A position in a saved file, with a window of bytes from there on. The window grows while the file
 * is read in order, and is small again after a jump, so that a mapped-ram file costs a few reads.
 */
import { u32At } from '../stream/internal.js'
import type { ByteSource } from './file-bytes.js'
import { SavedFileError, type SavedErrorKind } from './saved-error.js'

const FIRST_READ_BYTES = 64 * 1024
const MOST_READ_BYTES = 1024 * 1024

export class Cursor {
  readonly source: ByteSource
  /** The window: `bytes[at..end)` are the next bytes of the file. */
  bytes: Uint8Array<ArrayBuffer> = new Uint8Array(0)
  /** Index of the next byte. Greater than `end` after a skip past the window. */
  at = 0
  end = 0
  /** Offset of `bytes[0]` in the source. */
  base: number
  #readBytes = FIRST_READ_BYTES

  constructor(source: ByteSource, offset: number) {
    this.source = source
    this.base = offset
  }

  get offset(): number {
    return this.base + this.at
  }

  get remaining(): number {
    return this.source.endOffset - this.offset
  }

  seek(offset: number): void {
    const at = offset - this.base
    if (at >= 0 && at <= this.end) {
      this.at = at
      return
    }
    this.base = offset
    this.at = 0
    this.end = 0
    this.#readBytes = FIRST_READ_BYTES
  }

  /**
   * Makes at least `count` bytes available.
   *
   * @throws SavedFileError `ERR_SAVED_TRUNCATED` that names the field
   */
  async need(count: number, field: string): Promise<void> {
    if (this.end - this.at >= count) return
    if (count > this.remaining) this.refuse('truncated', endOf(field))
    if ((await this.fill(count)) < count) this.refuse('truncated', endOf(field))
  }

  /** Makes up to `count` bytes available, fewer at the end; returns how many there are. */
  async fill(count: number): Promise<number> {
    const have = this.end - this.at
    if (have >= count || this.remaining <= Math.max(0, have)) return Math.max(0, have)
    this.#makeRoom(count)
    const wanted = Math.min(this.bytes.length, Math.max(this.#readBytes, count))
    this.end += await this.source.read(this.bytes.subarray(this.end, wanted), this.base + this.end)
    this.#readBytes = Math.min(MOST_READ_BYTES, this.#readBytes * 2)
    return this.end - this.at
  }

  /** Moves what is left of the window to its beginning, and grows it. */
  #makeRoom(count: number): void {
    const left = Math.max(0, this.end - this.at)
    const wanted = Math.max(count, this.#readBytes)
    const bytes = this.bytes.length < wanted ? new Uint8Array(wanted) : this.bytes
    if (left > 0) bytes.set(this.bytes.subarray(this.at, this.end))
    this.base += this.at
    this.bytes = bytes
    this.at = 0
    this.end = left
  }

  /** The next byte without consuming it; undefined at the end. */
  async peek(): Promise<number | undefined> {
    return (await this.fill(1)) === 0 ? undefined : this.bytes[this.at]
  }

  async u8(field: string): Promise<number> {
    await this.need(1, field)
    this.at += 1
    return this.bytes[this.at - 1] ?? 0
  }

  async u32(field: string): Promise<number> {
    await this.need(4, field)
    this.at += 4
    return u32At(this.bytes, this.at - 4)
  }

  /** Reads a u64 that must be below 2^53. */
  async u64(field: string): Promise<number> {
    const high = await this.u32(field)
    const low = await this.u32(field)
    if (high >= 2 ** 21) {
      const value = (BigInt(high) << 32n) | BigInt(low)
      this.refuse('damaged', `${field} is 0x${value.toString(16)}`, this.offset - 8)
    }
    return high * 2 ** 32 + low
  }

  /** Reads bytes of any length into memory of their own. The caller has checked the length. */
  async take(lengthBytes: number, field: string): Promise<Uint8Array<ArrayBuffer>> {
    if (lengthBytes > this.remaining) this.refuse('truncated', endOf(field))
    const result = new Uint8Array(lengthBytes)
    if ((await this.source.read(result, this.offset)) < lengthBytes) {
      this.refuse('truncated', endOf(field))
    }
    this.seek(this.offset + lengthBytes)
    return result
  }

  /** @throws SavedFileError at `offset`, by default the current one */
  refuse(kind: SavedErrorKind, message: string, offset = this.offset): never {
    const { path, inside } = this.source
    const place = { path, offset, ...(inside === undefined ? {} : { inside }) }
    throw new SavedFileError(kind, place, message)
  }
}

function endOf(field: string): string {
  return `the file ends inside ${field}: it is not complete`
}

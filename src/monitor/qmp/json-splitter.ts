/**
 * Splits chunks into JSON values, however they are cut. Only brackets delimit values: a line may
 * have several values, and a value several lines.
 *
 * After an error it continues at the next line or opening brace, similar to QEMU. So a client that
 * sent garbage, or the byte 0xff on purpose, can continue.
 */

import { GrowingBuffer } from '../../growing-buffer.js'
import { MAX_REQUEST_BYTES } from '../limits.js'

/** A value, or the reason why there is none. */
export type JsonPiece = { readonly value: unknown } | { readonly error: string }

const MAX_DEPTH = 1024

const TAB = 0x09
const LINE_FEED = 0x0a
const SPACE = 0x20
const QUOTE = 0x22
const BACKSLASH = 0x5c
const OPEN_BRACKET = 0x5b
const CLOSE_BRACKET = 0x5d
const OPEN_BRACE = 0x7b
const CLOSE_BRACE = 0x7d
/** Bytes from this value on are never part of UTF-8. */
const NO_UTF8 = 0xf8

const EMPTY = new Uint8Array(0)

export class JsonSplitter {
  readonly #decoder = new TextDecoder('utf-8', { fatal: true })
  /** The incomplete value of earlier chunks. */
  #kept: GrowingBuffer | undefined
  /** The closing brackets that are expected, innermost last. */
  #closers: number[] = []
  #mode: 'between' | 'bare' | 'inside' | 'string' | 'escape' | 'skipping' = 'between'

  get #isInValue(): boolean {
    return this.#mode !== 'between' && this.#mode !== 'skipping'
  }

  /** Takes all of `chunk`; a caller that stops early loses the rest. */
  *split(chunk: Uint8Array): Generator<JsonPiece> {
    let start = 0
    for (let at = 0; at < chunk.length; at += 1) {
      const byte = chunk[at] ?? 0
      if (this.#mode === 'bare' && endsBareWord(byte)) {
        yield this.#take(chunk.subarray(start, at))
      }
      if (this.#isInValue && (this.#kept?.length ?? 0) + (at - start) >= MAX_REQUEST_BYTES) {
        this.#drop('skipping')
        yield { error: 'JSON token size limit exceeded' }
      }
      if (this.#mode === 'skipping' && (byte === LINE_FEED || byte === OPEN_BRACE)) {
        this.#mode = 'between'
      }
      if (this.#mode === 'between') start = at
      const error = this.#step(byte)
      if (error !== undefined) {
        this.#drop(byte === LINE_FEED ? 'between' : 'skipping')
        yield { error }
      } else if (this.#mode === 'between' && byte > SPACE) {
        yield this.#take(chunk.subarray(start, at + 1))
      }
    }
    if (this.#isInValue) {
      this.#keep(chunk, start)
    }
  }

  /** Call at the end of the input: an incomplete value is an error, except for a bare word. */
  *end(): Generator<JsonPiece> {
    if (this.#mode === 'bare') yield this.#take(EMPTY)
    else if (this.#isInValue) yield { error: 'JSON parse error, premature end of input' }
    this.#drop('between')
  }

  /** @returns the error of `byte`, if any; a return to `between` means that a value has ended */
  #step(byte: number): string | undefined {
    switch (this.#mode) {
      case 'skipping':
      case 'bare':
        return undefined
      case 'escape':
        this.#mode = 'string'
        return undefined
      case 'string':
        if (byte < SPACE) return 'JSON parse error, control character in a string'
        if (byte === BACKSLASH) this.#mode = 'escape'
        else if (byte === QUOTE) this.#leave()
        return undefined
      case 'between':
        if (byte <= SPACE) return undefined
        if (byte === CLOSE_BRACE || byte === CLOSE_BRACKET) {
          return 'JSON parse error, expecting value'
        }
        this.#mode = 'inside'
        if (byte !== QUOTE && byte !== OPEN_BRACE && byte !== OPEN_BRACKET) {
          this.#mode = 'bare'
        }
        return this.#inside(byte)
      case 'inside':
        return this.#inside(byte)
    }
  }

  #inside(byte: number): string | undefined {
    if (byte >= NO_UTF8) return 'JSON parse error, stray byte that is not UTF-8'
    switch (byte) {
      case QUOTE:
        this.#mode = 'string'
        return undefined
      case OPEN_BRACE:
      case OPEN_BRACKET:
        if (this.#closers.length >= MAX_DEPTH) return 'JSON nesting depth limit exceeded'
        this.#closers.push(byte === OPEN_BRACE ? CLOSE_BRACE : CLOSE_BRACKET)
        return undefined
      case CLOSE_BRACE:
      case CLOSE_BRACKET:
        if (this.#closers.pop() !== byte) return 'JSON parse error, expecting value'
        this.#leave()
        return undefined
      default:
        return undefined
    }
  }

  /** Call at the end of a string or a bracket. */
  #leave(): void {
    this.#mode = this.#closers.length === 0 ? 'between' : 'inside'
  }

  #take(last: Uint8Array): JsonPiece {
    const bytes = this.#kept === undefined ? last : this.#keep(last, 0).peek()
    const isBare = this.#mode === 'bare'
    this.#drop('between')
    let text: string
    try {
      text = this.#decoder.decode(bytes)
    } catch {
      return { error: 'JSON parse error, invalid UTF-8 sequence in string' }
    }
    try {
      return { value: JSON.parse(text) as unknown }
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error)
      return {
        error: `JSON parse error, ${isBare ? `invalid keyword '${text.slice(0, 80)}'` : why}`,
      }
    }
  }

  /** A value uses little more memory than its own bytes, even if it arrives in small pieces. */
  #keep(chunk: Uint8Array, start: number): GrowingBuffer {
    this.#kept ??= new GrowingBuffer(MAX_REQUEST_BYTES)
    this.#kept.append(chunk, start, chunk.length)
    return this.#kept
  }

  #drop(mode: 'between' | 'skipping'): void {
    this.#mode = mode
    this.#kept = undefined
    this.#closers = []
  }
}

/** Numbers, `true` and anything that is not JSON end before a blank, a bracket or a string. */
function endsBareWord(byte: number): boolean {
  switch (byte) {
    case TAB:
    case SPACE:
    case QUOTE:
    case OPEN_BRACE:
    case CLOSE_BRACE:
    case OPEN_BRACKET:
    case CLOSE_BRACKET:
      return true
    default:
      return byte < SPACE
  }
}

/**
 * What follows the `ram` END of a precopy: FULL sections, which have no length, then
 *
 *   00 (EOF)   06   u32 length   JSON
 *
 * The sections can contain any bytes, so the decoder searches for this end: an EOF after a footer,
 * a description, and a text of the announced length that is JSON. JSON has no byte 0, so a byte 0
 * rules out a candidate. Therefore each byte is read a constant number of times.
 */
import { ElementType, SECTION_FOOTER } from './constants.js'
import { GrowingBuffer } from '../growing-buffer.js'
import { checkLimit, refuse } from './errors.js'
import { isJsonObject } from './json-reader.js'
import { u32At } from './reader.js'

/** EOF, type and length before the text. */
const HEAD_BYTES = 6
const FOOTER_BYTES = 5
const OPENING_BRACE = 0x7b

/** A tail, split into sections and description. */
export interface DeviceTail {
  /** The FULL sections. */
  readonly devices: Uint8Array<ArrayBuffer>
  /** undefined if the source sent none. */
  readonly description: string | undefined
}

/** Collects the tail and finds its end. */
export class DeviceTailCollector {
  readonly #buffer: GrowingBuffer
  readonly #limitBytes: number
  readonly #descriptionLimitBytes: number
  readonly #streamOffset: number
  /** Index at which the search for the next byte 0 continues. */
  #scan = FOOTER_BYTES
  /** A byte 0 that may be the EOF, and the end of the text that follows it. */
  #candidate: { readonly at: number; readonly end: number } | undefined
  /** Length and index of a possible description that exceeds the limit. */
  #tooLong: { readonly lengthBytes: number; readonly at: number } | undefined

  /**
   * @param limitBytes - limit of sections and description together
   * @param descriptionLimitBytes - limit of the description
   * @param streamOffset - offset of the first section
   */
  constructor(limitBytes: number, descriptionLimitBytes: number, streamOffset: number) {
    this.#buffer = new GrowingBuffer(limitBytes)
    this.#limitBytes = limitBytes
    this.#descriptionLimitBytes = descriptionLimitBytes
    this.#streamOffset = streamOffset
  }

  /** Takes `bytes[start..end)`; returns how many belong to the tail. */
  append(bytes: Uint8Array, start: number, end: number): { taken: number; tail?: DeviceTail } {
    const before = this.#buffer.length
    const taken = this.#buffer.append(bytes, start, end)
    const found = this.#search()
    if (found !== undefined) {
      if (found.end < before) {
        refuse('element', 'bytes after the end', this.#streamOffset + found.end)
      }
      return { taken: found.end - before, tail: this.#cut(found.at, found.end) }
    }
    if (taken < end - start) {
      checkLimit('device state', before + end - start, this.#limitBytes, this.#streamOffset)
    }
    return { taken }
  }

  /** Ends the tail at the end of the channel: it must be sections and an EOF, no description. */
  finish(): DeviceTail {
    const bytes = this.#buffer.peek()
    const last = bytes.length - 1
    if (bytes[last] !== ElementType.endOfStream || !isBehindFooter(bytes, last)) {
      if (this.#tooLong !== undefined) {
        const { lengthBytes, at } = this.#tooLong
        const offset = this.#streamOffset + at
        checkLimit('a description', lengthBytes, this.#descriptionLimitBytes, offset)
      }
      const offset = this.#streamOffset + bytes.length
      refuse('truncated', 'the channel ended inside the device state', offset)
    }
    return { devices: this.#buffer.take(0, last), description: undefined }
  }

  #search(): { at: number; end: number } | undefined {
    const bytes = this.#buffer.peek()
    for (;;) {
      const candidate = this.#candidate ?? this.#nextCandidate(bytes)
      this.#candidate = candidate
      if (candidate === undefined) return undefined
      const zero = bytes.indexOf(0, Math.max(this.#scan, candidate.at + HEAD_BYTES))
      const isAlive = zero === -1 || zero >= candidate.end
      if (isAlive && bytes.length < candidate.end) {
        this.#scan = bytes.length
        return undefined
      }
      if (isAlive && isJsonObject(bytes.subarray(candidate.at + HEAD_BYTES, candidate.end))) {
        return candidate
      }
      this.#scan = candidate.at + 1
      this.#candidate = undefined
    }
  }

  /** Goes from one byte 0 to the next; stops at one with too few bytes after it to decide. */
  #nextCandidate(bytes: Uint8Array): { at: number; end: number } | undefined {
    for (;;) {
      const at = bytes.indexOf(0, this.#scan)
      this.#scan = at === -1 ? bytes.length : at
      if (at === -1 || at + HEAD_BYTES >= bytes.length) return undefined
      const isHead =
        bytes[at + 1] === ElementType.vmDescription &&
        bytes[at + HEAD_BYTES] === OPENING_BRACE &&
        isBehindFooter(bytes, at)
      const lengthBytes = u32At(bytes, at + 2)
      const end = at + HEAD_BYTES + lengthBytes
      const isPossible = isHead && lengthBytes > 0 && end <= this.#limitBytes
      if (isPossible && lengthBytes <= this.#descriptionLimitBytes) return { at, end }
      if (isPossible) this.#tooLong = { lengthBytes, at }
      this.#scan = at + 1
    }
  }

  #cut(at: number, end: number): DeviceTail {
    const text = this.#buffer.peek().subarray(at + HEAD_BYTES, end)
    return { devices: this.#buffer.take(0, at), description: new TextDecoder().decode(text) }
  }
}

function isBehindFooter(bytes: Uint8Array, at: number): boolean {
  return at > FOOTER_BYTES && bytes[at - FOOTER_BYTES] === SECTION_FOOTER
}

/** Reads the lines of a stream one by one: each line is processed before the next. */
import type { Readable } from 'node:stream'
import { GrowingBuffer } from '../growing-buffer.js'
import { MAX_REQUEST_BYTES } from './limits.js'

const LINE_FEED = 0x0a
const CARRIAGE_RETURN = 0x0d

/** Undefined: a line that was too long, and was dropped. */
export type Line = string | undefined

/** Splits chunks into lines, however they are cut. */
export class LineSplitter {
  /** The incomplete line of earlier chunks. */
  #kept: GrowingBuffer | undefined
  #isTooLong = false;

  /** Takes all of `chunk`; a caller that stops early loses the rest. */
  *split(chunk: Uint8Array): Generator<Line> {
    let start = 0
    for (let end = chunk.indexOf(LINE_FEED); end >= 0; end = chunk.indexOf(LINE_FEED, start)) {
      const line = this.#take(chunk.subarray(start, end))
      start = end + 1
      yield line
    }
    if (start < chunk.length) this.#keep(chunk.subarray(start))
  }

  /** Call at the end of the input: the rest is a line, too. */
  *end(): Generator<Line> {
    if (this.#isTooLong || this.#kept !== undefined) yield this.#take(new Uint8Array(0))
  }

  #keep(bytes: Uint8Array): Uint8Array {
    this.#isTooLong ||= (this.#kept?.length ?? 0) + bytes.length > MAX_REQUEST_BYTES
    if (this.#isTooLong) {
      this.#kept = undefined
      return new Uint8Array(0)
    }
    this.#kept ??= new GrowingBuffer(MAX_REQUEST_BYTES)
    this.#kept.append(bytes, 0, bytes.length)
    return this.#kept.peek()
  }

  #take(last: Uint8Array): Line {
    const isWhole = this.#kept === undefined && !this.#isTooLong && last.length <= MAX_REQUEST_BYTES
    const bytes = isWhole ? last : this.#keep(last)
    const isTooLong = this.#isTooLong
    this.#kept = undefined
    this.#isTooLong = false
    if (isTooLong) return undefined
    const lengthBytes = bytes.at(-1) === CARRIAGE_RETURN ? bytes.length - 1 : bytes.length
    return new TextDecoder().decode(bytes.subarray(0, lengthBytes))
  }
}

/**
 * @param take - must not reject; nothing is read until it has resolved
 * @param onEnd - called when the input has ended, and every line was taken
 * @returns stops reading
 */
export function readLines(
  input: Readable,
  take: (line: Line) => Promise<void>,
  onEnd: () => void,
): () => void {
  const splitter = new LineSplitter()
  let isClosed = false
  let work: Promise<void> = Promise.resolve()
  const takeAll = async (lines: Iterable<Line>): Promise<void> => {
    for (const line of lines) {
      if (isClosed) return
      await take(line)
    }
  }
  const later = (lines: Iterable<Line>, then: () => void): void => {
    work = work
      .then(() => takeAll(lines))
      .then(() => {
        if (!isClosed) then()
      })
  }
  const look = (chunk: Uint8Array | string): void => {
    input.pause()
    later(splitter.split(Buffer.from(chunk)), () => void input.resume())
  }
  const end = (): void => later(splitter.end(), onEnd)
  input.on('data', look)
  // A client that half-closed before it was served emits no `end` event.
  if (input.readableEnded) end()
  else input.on('end', end)
  return () => {
    isClosed = true
    input.off('data', look)
    input.pause()
  }
}

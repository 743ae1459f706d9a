/** The return path: u16 type, u16 length, payload; the length does not count a received bitmap. */
import { TARGET_PAGE_SIZE, hex } from '../units.js'
import { ChannelDecoder, INCOMPLETE } from './channel-decoder.js'
import { checkLength } from './command-decoder.js'
import {
  MAX_RETURN_PATH_PAYLOAD_BYTES,
  RECV_BITMAP_END_HIGH,
  RECV_BITMAP_END_LOW,
  RESUME_ACK_VALUE,
  RETURN_PATH_HEADER_BYTES,
  RETURN_PATH_MESSAGES,
  ReturnPathMessage,
} from './constants.js'
import { refuse } from './errors.js'
import { GrowingBuffer } from '../growing-buffer.js'
import type { ReturnPathHandler } from './handler.js'
import { checkRange, pageCountOf, RamBlockTable } from './ram-block-table.js'
import { Reader, u16At, u32At } from './reader.js'
import type { RamBlockInfo } from './types.js'

/** Fixed fields of a page request: u64 start, u32 length. */
const REQUEST_BYTES = 12

/** Decodes the messages of a destination to the source. One decoder for each connection. */
export class ReturnPathDecoder extends ChannelDecoder {
  readonly #handler: ReturnPathHandler
  readonly #table: RamBlockTable
  /** Block of the previous request. */
  #last: RamBlockInfo | undefined
  /** The incomplete bitmap, its block, and the offset of its message. */
  #bitmap: { block: RamBlockInfo; offset: number; bytes: GrowingBuffer | undefined } | undefined

  /** @param blocks - the source's blocks; page requests and bitmaps are checked against them */
  constructor(handler: ReturnPathHandler, blocks: readonly RamBlockInfo[]) {
    super()
    this.#handler = handler
    this.#table = new RamBlockTable(blocks)
  }

  protected override step(bytes: Uint8Array, at: number, end: number): number {
    const bitmap = this.#bitmap
    if (bitmap === undefined) return this.#message(bytes, at, end)
    if (bitmap.bytes === undefined) return this.#bitmapSize(bytes, at, end, bitmap.block)
    if (!bitmap.bytes.isFull) return at + bitmap.bytes.append(bytes, at, end)
    return this.#bitmapEnd(bytes, at, end, bitmap.block, bitmap.bytes)
  }

  protected override finish(leftover: number): void {
    if (leftover > 0 || this.#bitmap !== undefined) {
      refuse('truncated', 'the return path ended inside a message', this.streamOffset)
    }
    this.isFinished = true
  }

  #message(bytes: Uint8Array, at: number, end: number): number {
    if (end - at < RETURN_PATH_HEADER_BYTES) return INCOMPLETE
    const offset = this.base + at
    const type = u16At(bytes, at)
    const length = u16At(bytes, at + 2)
    const known = RETURN_PATH_MESSAGES.get(type)
    if (known === undefined) {
      return refuse('returnPath', `unknown return path message ${type}`, offset)
    }
    checkLength('returnPath', known, length, offset)
    if (length > MAX_RETURN_PATH_PAYLOAD_BYTES) {
      refuse('returnPath', `${known.name} with ${length} bytes`, offset)
    }
    const payload = at + RETURN_PATH_HEADER_BYTES
    const next = payload + length
    if (end < next) return INCOMPLETE
    this.#dispatch(type, new Reader(bytes, this.base + payload, payload, next), offset)
    return next
  }

  #dispatch(type: number, reader: Reader, offset: number): void {
    switch (type) {
      case ReturnPathMessage.shut:
        this.isFinished = true
        this.#handler.shut?.(reader.u32())
        break
      case ReturnPathMessage.pong:
        this.#handler.pong?.(reader.u32())
        break
      case ReturnPathMessage.requestPagesNamed:
      case ReturnPathMessage.requestPages:
        this.#request(reader, type === ReturnPathMessage.requestPagesNamed, offset)
        break
      case ReturnPathMessage.recvBitmap: {
        const name = readName(reader, 'RECV_BITMAP', offset)
        const block = this.#table.demand(name, 'RECV_BITMAP', offset)
        this.#bitmap = { block, offset, bytes: undefined }
        break
      }
      case ReturnPathMessage.resumeAck: {
        const value = reader.u32()
        if (value !== RESUME_ACK_VALUE) {
          refuse('returnPath', `RESUME_ACK of ${value}, not ${RESUME_ACK_VALUE}`, offset)
        }
        this.#handler.resumeAck?.()
        break
      }
      case ReturnPathMessage.switchoverAck:
        this.#handler.switchoverAck?.()
    }
  }

  #request(reader: Reader, isNamed: boolean, offset: number): void {
    const what = isNamed ? 'REQ_PAGES_ID' : 'REQ_PAGES'
    if (reader.remaining < REQUEST_BYTES) {
      refuse('returnPath', `${what} with ${reader.remaining} bytes`, offset)
    }
    const start = reader.u64()
    const lengthBytes = reader.u32()
    const block = isNamed
      ? this.#table.demand(readName(reader, what, offset), what, offset)
      : (this.#last ?? refuse('block', `${what} before any named block`, offset))
    const pageSize = block.pageSizeBytes ?? TARGET_PAGE_SIZE
    checkRange(what, block, start, lengthBytes, pageSize, offset)
    this.#last = block
    this.#handler.requestPages?.(block.name, start, lengthBytes)
  }

  #bitmapSize(bytes: Uint8Array, at: number, end: number, block: RamBlockInfo): number {
    if (end - at < 8) return INCOMPLETE
    const high = u32At(bytes, at)
    const low = u32At(bytes, at + 4)
    const expected = Math.ceil(pageCountOf(block) / 64) * 8
    const offset = this.#bitmap?.offset ?? this.base + at
    if (high !== 0 || low !== expected) {
      const found = high === 0 ? `${low} bytes` : '4 GiB or more'
      const what = `received bitmap of block "${block.name}"`
      refuse('recvBitmap', `${what}: ${found}, not ${expected} bytes`, offset)
    }
    this.#bitmap = { block, offset, bytes: new GrowingBuffer(expected) }
    return at + 8
  }

  #bitmapEnd(
    bytes: Uint8Array,
    at: number,
    end: number,
    block: RamBlockInfo,
    bitmap: GrowingBuffer,
  ): number {
    if (end - at < 8) return INCOMPLETE
    const high = u32At(bytes, at)
    const low = u32At(bytes, at + 4)
    if (high !== RECV_BITMAP_END_HIGH || low !== RECV_BITMAP_END_LOW) {
      const what = `received bitmap of block "${block.name}"`
      const offset = this.#bitmap?.offset ?? this.base + at
      refuse('recvBitmap', `${what}: ${hex(high)}:${hex(low)} instead of its end mark`, offset)
    }
    this.#bitmap = undefined
    this.#handler.recvBitmap?.(block.name, bitmap.take())
    return at + 8
  }
}

/** str8, which must be the rest of the payload. */
function readName(reader: Reader, what: string, offset: number): string {
  const left = reader.remaining
  if (left === 0 || left !== 1 + (reader.peek() ?? 0)) {
    refuse('returnPath', `${what}: ${left} bytes do not fit a block name`, offset)
  }
  return reader.str8()
}

/**
 * Where the last copy of each page of a RAM block is in the file. The table is made of small pieces
 * that appear with the first page in them, so its memory follows the pages that are in the file, not
 * the announced length of the block.
 */
import { RAM_PAGE_RECORD_BYTES } from '../stream/index.js'
import { setImmediate as yieldToLoop } from 'node:timers/promises'
import { PageBitmap } from '../ram/index.js'

const PIECE_BITS = 9
/** A piece takes 4 KiB: no more than the page in the file that makes it appear. */
const PIECE_PAGES = 2 ** PIECE_BITS
/** Pieces, or rows, between two turns of the event loop: a few milliseconds. */
const PIECES_A_TURN = 256
const ROWS_A_TURN = 65_536

/** Columns of a row of {@link PageRows}. */
export const PageRow = { stride: 3, firstPage: 0, pageCount: 1, offset: 2 } as const

/** Runs of pages whose records follow each other in the file. */
export interface PageRows {
  /** Rows of {@link PageRow}, ascending. Page `p` of a row is at offset + (p - first) * 4104. */
  readonly rows: Float64Array
  readonly data: PageBitmap
}

export class PageTable {
  readonly #pieces = new Map<number, Float64Array>()
  #index = -1
  #piece: Float64Array | undefined

  /** Notes the offset of the content of a page, which replaces earlier copies. */
  set(page: number, offset: number): void {
    const index = Math.floor(page / PIECE_PAGES)
    if (index !== this.#index) this.#select(index)
    if (this.#piece === undefined) {
      this.#piece = new Float64Array(PIECE_PAGES)
      this.#pieces.set(index, this.#piece)
    }
    this.#piece[page % PIECE_PAGES] = offset
  }

  /** Notes that a page is zero. */
  clear(page: number): void {
    const index = Math.floor(page / PIECE_PAGES)
    if (index !== this.#index) this.#select(index)
    if (this.#piece !== undefined) this.#piece[page % PIECE_PAGES] = 0
  }

  #select(index: number): void {
    this.#index = index
    this.#piece = this.#pieces.get(index)
  }

  async finish(pageCount: number): Promise<PageRows> {
    const rows = new RowWriter()
    const indexes = [...this.#pieces.keys()].sort((one, other) => one - other)
    for (const [turn, index] of indexes.entries()) {
      if (turn % PIECES_A_TURN === PIECES_A_TURN - 1) await yieldToLoop()
      rows.addPiece(index * PIECE_PAGES, this.#pieces.get(index) ?? new Float64Array(0))
    }
    const taken = rows.take()
    return { rows: taken, data: await bitmapOf(taken, pageCount) }
  }
}

/** The pages of the rows, as a bitmap. */
export async function bitmapOf(rows: Float64Array, pageCount: number): Promise<PageBitmap> {
  const data = new PageBitmap(pageCount)
  for (let at = 0; at < rows.length; at += PageRow.stride) {
    const first = rows[at + PageRow.firstPage] ?? 0
    const count = rows[at + PageRow.pageCount] ?? 0
    if (count === 1) data.set(first)
    else data.setRange(first, first + count)
    if (at % (ROWS_A_TURN * PageRow.stride) === 0 && at > 0) await yieldToLoop()
  }
  return data
}

class RowWriter {
  #rows = new Float64Array(64 * PageRow.stride)
  #length = 0
  #first = 0
  #count = 0
  #offset = 0

  addPiece(firstPage: number, offsets: Float64Array): void {
    for (let index = 0; index < offsets.length; index += 1) {
      const offset = offsets[index] ?? 0
      if (offset === 0) continue
      const page = firstPage + index
      const isNext =
        page === this.#first + this.#count &&
        offset === this.#offset + this.#count * RAM_PAGE_RECORD_BYTES
      if (isNext) this.#count += 1
      else this.#begin(page, offset)
    }
  }

  take(): Float64Array {
    this.#begin(0, 0)
    return this.#rows.slice(0, this.#length)
  }

  /** Writes the current row, and begins another one. */
  #begin(page: number, offset: number): void {
    if (this.#count > 0) {
      if (this.#length === this.#rows.length) {
        const grown = new Float64Array(this.#length * 2)
        grown.set(this.#rows)
        this.#rows = grown
      }
      this.#rows[this.#length + PageRow.firstPage] = this.#first
      this.#rows[this.#length + PageRow.pageCount] = this.#count
      this.#rows[this.#length + PageRow.offset] = this.#offset
      this.#length += PageRow.stride
    }
    this.#first = page
    this.#count = 1
    this.#offset = offset
  }
}

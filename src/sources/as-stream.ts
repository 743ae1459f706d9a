/** A saved VM as a plain stream of QEMU, whatever its format: what `migrate "exec:cat"` writes. */
import { read } from 'node:fs'
import { setImmediate as yieldToLoop } from 'node:timers/promises'
import { promisify } from 'node:util'
import {
  encode,
  encodeEndOfStream,
  encodeFileHeader,
  encodeFooter,
  encodeRamBlockList,
  encodeRamEndOfSection,
  encodeSectionEnd,
  encodeSectionPart,
  encodeSectionStart,
  encodeVmDescription,
  encodeName,
  RAM_PAGE_RECORD_BYTES,
  RAM_RECORD_HEAD_BYTES,
  RAM_SECTION,
  RAM_SECTION_VERSION,
  RamFlag,
  type Writer,
} from '../stream/index.js'
import { TARGET_PAGE_SIZE } from '../units.js'
import type { SavedBlock, SavedImage } from './open-saved.js'
import { SavedRun } from './page-runs.js'
import { SavedFileError } from './saved-error.js'

const readBytes = promisify(read)
const PIECE_BYTES = 1024 * 1024
/** The name of a block in the first record. */
const MOST_HEAD_BYTES = 256
/** Pages without data that are read with their neighbours, which is faster than another read. */
const MOST_GAP_PAGES = 8

/**
 * Yields the stream in pieces of about 1 MiB. Each piece is valid until the next one.
 *
 * @throws SavedFileError if the file is shorter now than when it was opened
 */
export async function* streamOf(image: SavedImage): AsyncGenerator<Uint8Array> {
  const { ramSectionId: id, blocks } = image
  yield encode((out) => {
    encodeFileHeader(out)
    out.bytes(image.configuration).bytes(image.earlySections)
    encodeSectionStart(out, { id, idstr: RAM_SECTION, instanceId: 0, version: RAM_SECTION_VERSION })
    encodeRamBlockList(
      out,
      blocks.map(({ name, lengthBytes }) => ({ name, usedLengthBytes: lengthBytes })),
    )
    endSection(out, id)
    encodeSectionPart(out, id)
  })
  const pages = new PageWriter(image)
  for (const block of blocks) {
    for await (const piece of pages.write(block)) {
      yield piece
      // Zero pages need no read, so a long run of them would block the event loop.
      await yieldToLoop()
    }
  }
  yield encode((out) => {
    endSection(out, id)
    encodeSectionEnd(out, id)
    endSection(out, id)
    out.bytes(image.devices)
    encodeEndOfStream(out)
    const { description } = image
    if (description !== undefined) encodeVmDescription(out, new TextDecoder().decode(description))
  })
}

function endSection(out: Writer, id: number): void {
  encodeRamEndOfSection(out)
  encodeFooter(out, id)
}

/** Collects records in a buffer that is used again. */
class PageWriter {
  readonly #image: SavedImage
  readonly #buffer = Buffer.alloc(PIECE_BYTES)
  readonly #read = Buffer.alloc(PIECE_BYTES)
  #length = 0
  #isFirst = true

  constructor(image: SavedImage) {
    this.#image = image
  }

  async *write(block: SavedBlock): AsyncGenerator<Uint8Array> {
    this.#isFirst = true
    const { runs, lengthBytes } = block
    let next = 0
    for (let at = 0; at < runs.length; at += SavedRun.stride) {
      const first = runs[at + SavedRun.firstPage] ?? 0
      const count = runs[at + SavedRun.pageCount] ?? 0
      yield* this.#zeros(block, next, first)
      next = first
      for (;;) {
        const page = block.data.next(next, first + count)
        if (page === -1) break
        yield* this.#zeros(block, next, page)
        if (this.#isFull) yield this.#take()
        next = page + (await this.#pages(block, page, runs.subarray(at)))
      }
    }
    yield* this.#zeros(block, next, lengthBytes / TARGET_PAGE_SIZE)
    yield this.#take()
  }

  *#zeros(block: SavedBlock, from: number, to: number): Generator<Uint8Array> {
    for (let page = from; page < to; page += 1) {
      if (this.#isFull) yield this.#take()
      this.#head(block, page, RamFlag.zero)
    }
  }

  /**
   * Writes as many pages of a run as have room, up to a gap without data; returns how many.
   *
   * @param page - has data
   */
  async #pages(block: SavedBlock, page: number, run: Float64Array): Promise<number> {
    const [first = 0, count = 0, file = 0, begin = 0, stride = 0] = run
    const room = Math.floor((PIECE_BYTES - this.#length - MOST_HEAD_BYTES) / RAM_PAGE_RECORD_BYTES)
    const pages = pagesToGap(block, page, Math.min(room, first + count - page))
    const offset = begin + (page - first) * stride
    const wanted = (pages - 1) * stride + TARGET_PAGE_SIZE
    const fd = this.#image.fds[file] ?? -1
    const { bytesRead } = await readBytes(fd, this.#read, 0, wanted, offset)
    if (bytesRead < wanted) {
      const { path } = this.#image
      const text = `page ${page} of RAM block "${block.name}" is not there any more`
      throw new SavedFileError('truncated', { path, offset }, text)
    }
    for (let index = 0; index < pages; index += 1) {
      if (!block.data.test(page + index)) {
        this.#head(block, page + index, RamFlag.zero)
        continue
      }
      this.#head(block, page + index, RamFlag.page)
      const at = index * stride
      this.#read.copy(this.#buffer, this.#length, at, at + TARGET_PAGE_SIZE)
      this.#length += TARGET_PAGE_SIZE
    }
    return pages
  }

  /** u64 offset and flags, the name in the first record of a block, the fill of a zero page. */
  #head({ name }: SavedBlock, page: number, kind: number): void {
    const flags = this.#isFirst ? kind : kind | RamFlag.continue
    const offset = page * TARGET_PAGE_SIZE
    this.#buffer.writeUInt32BE(Math.floor(offset / 2 ** 32), this.#length)
    this.#buffer.writeUInt32BE((offset % 2 ** 32) + flags, this.#length + 4)
    this.#length += RAM_RECORD_HEAD_BYTES
    if (this.#isFirst) {
      const bytes = encodeName(name)
      this.#buffer[this.#length] = bytes.length
      this.#buffer.set(bytes, this.#length + 1)
      this.#length += 1 + bytes.length
      this.#isFirst = false
    }
    if (kind === RamFlag.zero) {
      this.#buffer[this.#length] = 0
      this.#length += 1
    }
  }

  /** Whether the longest record may have no room. */
  get #isFull(): boolean {
    return this.#length + MOST_HEAD_BYTES + RAM_PAGE_RECORD_BYTES > PIECE_BYTES
  }

  #take(): Uint8Array {
    const piece = this.#buffer.subarray(0, this.#length)
    this.#length = 0
    return piece
  }
}

/** How many of `most` pages are to be read at once: up to the last with data before a long gap. */
function pagesToGap({ data }: SavedBlock, first: number, most: number): number {
  let pages = 1
  for (let index = 1; index < most && index - pages <= MOST_GAP_PAGES; index += 1) {
    if (data.test(first + index)) pages = index + 1
  }
  return pages
}

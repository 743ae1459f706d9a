/**
 * Reads pages of files from disk into the page cache, on Node's thread pool. So the source's thread
 * never waits for a disk while it can serve other pages.
 */
import { read } from 'node:fs'
import { promisify } from 'node:util'
import { PageFile, PageFileRun } from '../kernel/index.js'
import { PageBitmap, type RamBlock } from '../ram/index.js'
import { RAM_PAGE_RECORD_BYTES } from '../stream/index.js'
import { TARGET_PAGE_SIZE } from '../units.js'

/** Most bytes of one read. */
const READ_BYTES = 2 ** 20
/** Reads of the sweep at once: the thread pool has four threads, and requests need one. */
const MOST_READS = 3
/** Requested host pages that are read at once; the others wait in their queue. */
const MOST_REQUESTED = 32
/** How far ahead of the sweep pages are read, in pieces of {@link AHEAD_PAGES}. */
const MOST_PIECES = 2 * MOST_READS
/** Target pages that are loaded by one read of the sweep. */
const AHEAD_PAGES = READ_BYTES / TARGET_PAGE_SIZE

const readFile = promisify(read)

interface Progress {
  readonly loading: PageBitmap
  /** Loaded once. Such a page is normally in the page cache. */
  readonly loaded: PageBitmap
}

export class PageLoader {
  readonly #progress = new Map<RamBlock, Progress>()
  readonly #buffers: Uint8Array[] = []
  #reads = 0
  #requested = 0

  /** Whether pages are being read. */
  get isLoading(): boolean {
    return this.#reads + this.#requested > 0
  }

  /** Whether {@link loadRequested} may be called. */
  get hasRoom(): boolean {
    return this.#requested < MOST_REQUESTED
  }

  /** Whether the page was read before. */
  hasLoaded(block: RamBlock, page: number): boolean {
    return this.#progress.get(block)?.loaded.test(page) === true
  }

  /** The end of the whole host pages from `first` on that were read before, at most `end`. */
  endOfLoaded(block: RamBlock, first: number, end: number): number {
    let page = first
    while (page < end && this.hasLoaded(block, page)) page += 1
    return page - ((page - first) % block.hostPages)
  }

  /** Reads the host page that begins at target page `first`. Never rejects. */
  async loadRequested(block: RamBlock, first: number): Promise<void> {
    this.#requested += 1
    const buffer = new Uint8Array(Math.min(READ_BYTES, block.hostPages * RAM_PAGE_RECORD_BYTES))
    await this.#load(block, first, first + block.hostPages, buffer)
    this.#requested -= 1
  }

  /**
   * Starts to read the next pages of a sweep that continues at `page`, unless enough is being read.
   *
   * @param done - called each time pages were read
   */
  loadAhead(block: RamBlock, page: number, dirty: PageBitmap, done: () => void): void {
    const { loading } = this.#progressOf(block)
    let first = page
    for (let piece = 0; piece < MOST_PIECES && this.#reads < MOST_READS; piece += 1) {
      const end = Math.min(first + Math.max(AHEAD_PAGES, block.hostPages), block.pageCount)
      if (loading.next(first, end) === -1 && !this.hasLoaded(block, first)) {
        void this.#loadPiece(block, first, end).then(done)
      }
      const next = end === block.pageCount ? -1 : dirty.next(end)
      if (next === -1) return
      first = next - (next % block.hostPages)
    }
  }

  async #loadPiece(block: RamBlock, first: number, end: number): Promise<void> {
    this.#reads += 1
    const buffer = this.#buffers.pop() ?? new Uint8Array(READ_BYTES)
    await this.#load(block, first, end, buffer)
    this.#buffers.push(buffer)
    this.#reads -= 1
  }

  async #load(block: RamBlock, first: number, end: number, buffer: Uint8Array): Promise<void> {
    const { loading, loaded } = this.#progressOf(block)
    loading.setRange(first, end)
    try {
      if (block.pages instanceof PageFile) await readPages(block.pages, first, end, buffer)
    } catch {
      // Counts as loaded: packing the page reports why it cannot be read.
    }
    loading.clearRange(first, end)
    loaded.setRange(first, end)
  }

  #progressOf(block: RamBlock): Progress {
    let progress = this.#progress.get(block)
    if (progress === undefined) {
      const { pageCount } = block
      progress = { loading: new PageBitmap(pageCount), loaded: new PageBitmap(pageCount) }
      this.#progress.set(block, progress)
    }
    return progress
  }
}

async function readPages(
  pages: PageFile,
  first: number,
  end: number,
  buffer: Uint8Array,
): Promise<void> {
  const run = new Float64Array(PageFileRun.stride)
  for (let page = first; page < end;) {
    if (!pages.find(page, run)) {
      page += 1
      continue
    }
    const fd = run[PageFileRun.file] ?? -1
    const stride = run[PageFileRun.strideBytes] ?? TARGET_PAGE_SIZE
    const count = Math.min(
      end - page,
      run[PageFileRun.pageCount] ?? 1,
      Math.max(1, Math.floor(buffer.length / stride)),
    )
    const lengthBytes = (count - 1) * stride + TARGET_PAGE_SIZE
    await readFile(
      fd,
      buffer,
      0,
      Math.min(lengthBytes, buffer.length),
      run[PageFileRun.offset] ?? 0,
    )
    page += count
  }
}

/**
 * Packs pages into records, from memory or from files. Pages of files that are not in the page cache
 * are read first, so that packing does not wait for the disk.
 */
import { PackCall, SendCall, packPages, sendPages } from '../kernel/index.js'
import type { ChannelName, Counters } from '../migration/index.js'
import type { TrackedBlock } from '../ram/index.js'
import { RAM_SECTION_TAIL_BYTES } from '../stream/internal.js'
import { PageLoader } from './page-loader.js'

/** Pages packed before each direct send; a batch is several such pieces. */
const PIECE_PAGES = 64
/** Most target pages that were read before and are packed with waiting. */
const MOST_READ_PAGES = 1024

/** Native code writes packed pages straight to the socket, and leaves the rest in the buffer. */
export interface DirectSend {
  readonly fd: number
  /** Bytes written to the socket. */
  sentBytes: number
  /** Offset in the buffer at which the rest begins. */
  unsentFrom: number
}

/** Length of a batch whose part in the buffer ends at `end`. */
export function batchLength(end: number, direct: Readonly<DirectSend> | undefined): number {
  return direct === undefined ? end : direct.sentBytes + end - direct.unsentFrom
}

/** Target pages `[from, to)`; at most `maxPages` of them are sent. */
export interface PackRange {
  readonly from: number
  readonly to: number
  readonly maxPages: number
}

/** Where packing has stopped. */
export interface PackResult {
  /** End of the records in the buffer. */
  readonly end: number
  /** Target pages that were packed. */
  readonly pages: number
  /** The next page to look at. */
  readonly nextPage: number
  /** That page has to be read from disk first. */
  readonly isOnDisk: boolean
}

export class PagePacker {
  readonly #counters: Counters
  readonly #loaded: () => void
  readonly #packing = new PackCall()
  readonly #sending = new SendCall()
  readonly #loader = new PageLoader()
  /** By channel, the block of the last record: the next record of the same block needs no name. */
  readonly #lastBlock: Record<ChannelName, TrackedBlock | undefined> = {
    main: undefined,
    preempt: undefined,
  }
  #postcopy = false

  /** @param loaded - called when pages were read from disk */
  constructor(counters: Counters, loaded: () => void) {
    this.#counters = counters
    this.#loaded = loaded
  }

  get isPostcopy(): boolean {
    return this.#postcopy
  }

  /** Packs whole host pages from now on; the next record has a name (protocol sections 4, 4.2). */
  beginPostcopy(): void {
    this.#postcopy = true
    this.#lastBlock.main = undefined
  }

  /** Whether pages are being read from disk. */
  get isLoading(): boolean {
    return this.#loader.isLoading
  }

  /** Starts to read the pages of a sweep that continues at `page`. */
  loadAhead({ block, dirty }: TrackedBlock, page: number): void {
    this.#loader.loadAhead(block, page, dirty, this.#loaded)
  }

  /**
   * Starts to read a requested host page.
   *
   * @param done - called when it was read
   * @returns whether it does; otherwise too many are being read
   */
  loadRequested({ block }: TrackedBlock, page: number, done: () => void): boolean {
    if (!this.#loader.hasRoom) return false
    void this.#loader.loadRequested(block, page).then(() => {
      done()
      this.#loaded()
    })
    return true
  }

  /**
   * Takes dirty pages of a range, and writes their records to `out` from `at` on.
   *
   * @param direct - may be used for some of the pages
   */
  pack(
    channel: ChannelName,
    out: Uint8Array,
    at: number,
    tracked: TrackedBlock,
    range: PackRange,
    direct?: DirectSend,
  ): PackResult {
    // In precopy no thread waits for a page, so a read may block.
    const packed = this.#packOnce(channel, out, at, tracked, range, direct, !this.#postcopy)
    if (!packed.isOnDisk) return packed
    // These pages were read before. They need a read that waits if the file system has no
    // RWF_NOWAIT, or if the page cache has dropped them.
    const { nextPage } = packed
    const { hostPages } = tracked.block
    const most = Math.min(range.to, nextPage + Math.max(hostPages, MOST_READ_PAGES))
    const to = this.#loader.endOfLoaded(tracked.block, nextPage, most)
    if (to === nextPage) return packed
    const read = { from: nextPage, to, maxPages: Math.max(hostPages, range.maxPages) }
    const rest = this.#packOnce(channel, out, packed.end, tracked, read, direct, true)
    return { ...rest, pages: packed.pages + rest.pages }
  }

  /** @param wait - read pages from disk that are not in the page cache */
  #packOnce(
    channel: ChannelName,
    out: Uint8Array,
    at: number,
    tracked: TrackedBlock,
    { from, to, maxPages }: PackRange,
    direct: DirectSend | undefined,
    wait: boolean,
  ): PackResult {
    const { block, dirty } = tracked
    const call = direct === undefined ? this.#packing : this.#sending
    call.from = from
    call.to = to
    call.maxPages = Math.min(maxPages, to - from)
    call.hostPages = this.#postcopy ? block.hostPages : 1
    call.outOffset = at
    call.wait = wait ? 1 : 0
    const name = tracked === this.#lastBlock[channel] ? undefined : block.nameBytes
    const room = out.subarray(0, out.length - RAM_SECTION_TAIL_BYTES)
    let end: number
    if (direct === undefined) {
      end = at + packPages(block.pages, dirty.bytes, name, room, this.#packing)
    } else {
      const sending = this.#sending
      sending.fd = direct.fd
      sending.piecePages = PIECE_PAGES
      end = sendPages(block.pages, dirty.bytes, name, room, sending)
      direct.sentBytes += sending.sentBytes
      direct.unsentFrom = sending.unsentFrom
    }
    const { normalPages: normal, zeroPages: zero, nextPage, isWaiting } = call
    if (normal + zero > 0) this.#lastBlock[channel] = tracked
    this.#counters.normalPages += normal
    this.#counters.zeroPages += zero
    return { end, pages: normal + zero, nextPage, isOnDisk: isWaiting === 1 }
  }
}

/**
 * Packs dirty pages into `ram` sections. A sweep covers all blocks. Requested pages are sent before
 * it, and the sweep continues after the last of them (protocol section 3.1).
 */
import type { ChannelName, Counters } from '../migration/index.js'
import type { PageBitmap, TrackedBlock } from '../ram/index.js'
import {
  MAX_RECORD_NAME_BYTES,
  RAM_PAGE_RECORD_BYTES,
  SECTION_HEAD_BYTES,
} from '../stream/index.js'
import {
  RAM_SECTION_TAIL_BYTES,
  writeRamSectionHead,
  writeRamSectionTail,
} from '../stream/internal.js'
import { type DirectSend, type PackResult, PagePacker } from './page-packer.js'
import { PageQueue, type PageRequest } from './page-queue.js'
import type { Replay } from './replay.js'

/** Any number works; QEMU 7.2 uses this one. */
export const RAM_SECTION_ID = 2

/** Target pages per buffer; a larger buffer does not stay in the cache. */
export const BUFFER_PAGES = 256
/** Most pages per batch; smaller batches cost more turns of the event loop, and more pongs. */
export const BATCH_PAGES = 1024

/** Most requests for pages on disk that are looked at in one batch. */
const MOST_SKIPPED = 64

/** A piece of the END section: bytes to send, and whether they complete the section. */
export interface EndPiece {
  readonly lengthBytes: number
  readonly complete: boolean
}

export class RamSender {
  readonly sectionId: number
  /** Requested pages. */
  readonly #requested: PageQueue
  /** Pages that will be requested next if the guesses are right. */
  readonly #ahead: PageQueue
  readonly #blocks: readonly TrackedBlock[]
  readonly #counters: Counters
  readonly #packer: PagePacker
  #remainingPages = 0
  /** Where the sweep continues. */
  #blockIndex = 0
  #page = 0
  /** By block, zero pages that are sent only on request. */
  #leftOut: ReadonlyMap<TrackedBlock, PageBitmap> = new Map()

  /** @param loaded - called when pages were read from disk, for which packing has stopped */
  constructor(
    blocks: readonly TrackedBlock[],
    counters: Counters,
    sectionId: number = RAM_SECTION_ID,
    loaded: () => void = () => undefined,
  ) {
    this.sectionId = sectionId
    this.#requested = new PageQueue(blocks)
    this.#ahead = new PageQueue(blocks)
    this.#blocks = blocks
    this.#counters = counters
    this.#packer = new PagePacker(counters, loaded)
  }

  /** Bytes of a buffer for `pages` target pages, and for at least one host page of any block. */
  batchBytes(pages: number): number {
    const most = Math.max(pages, ...this.#blocks.map(({ block }) => block.hostPages))
    return (
      SECTION_HEAD_BYTES +
      MAX_RECORD_NAME_BYTES +
      most * RAM_PAGE_RECORD_BYTES +
      RAM_SECTION_TAIL_BYTES
    )
  }

  /** Counts the pages to send again, after the bitmaps were changed elsewhere. */
  recount(): number {
    this.#remain(this.#blocks.reduce((sum, { dirty }) => sum + dirty.count(), 0))
    return this.#remainingPages
  }

  /** Pages to send. The counter of that name is a copy. */
  get remainingPages(): number {
    return this.#remainingPages
  }

  #remain(pages: number): void {
    this.#remainingPages = pages
    this.#counters.remainingPages = pages
  }

  /** Whether pages are being read from disk. */
  get isLoading(): boolean {
    return this.#packer.isLoading
  }

  /** Number of ordered requests that wait. */
  get requestsWaiting(): number {
    return this.#requested.length
  }

  /** Number of ordered guesses that wait. */
  get aheadWaiting(): number {
    return this.#ahead.length
  }

  beginRound(): void {
    this.#blockIndex = 0
    this.#page = 0
  }

  /**
   * Sends whole host pages from now on; the next record has a name (protocol sections 4 and 4.2).
   */
  beginPostcopy(): void {
    this.beginRound()
    this.#packer.beginPostcopy()
  }

  /** @param pages - by block, pages that are sent only on request; they are not dirty */
  leaveOut(pages: ReadonlyMap<TrackedBlock, PageBitmap>): void {
    this.#leftOut = pages
  }

  /** Takes a request for the whole host pages `[first, end)`, in target pages. */
  request(tracked: TrackedBlock, first: number, end: number): void {
    this.takeIn(tracked, first, end)
    this.#requested.add(tracked, first, end)
  }

  /** As {@link takeIn}, for the pages that wait already. */
  takeInRequested(): void {
    for (const tracked of this.#blocks) {
      for (const [first, end] of this.#requested.waiting(tracked)) this.takeIn(tracked, first, end)
    }
  }

  /** Makes pages that were left out dirty, so that they are sent once. */
  takeIn(tracked: TrackedBlock, first: number, end: number): void {
    const leftOut = this.#leftOut.get(tracked)
    if (leftOut === undefined) return
    for (let from = leftOut.next(first, end); from !== -1; from = leftOut.next(from, end)) {
      let to = from + 1
      while (to < end && leftOut.test(to)) to += 1
      leftOut.clearRange(from, to)
      tracked.dirty.setRange(from, to)
      this.#remain(this.#remainingPages + to - from)
      this.#counters.leftOutPages -= to - from
    }
  }

  /** Takes a guess that the whole host pages `[first, end)` will be requested next. */
  expect(tracked: TrackedBlock, first: number, end: number): void {
    this.#ahead.add(tracked, first, end)
  }

  /**
   * Fills `out` with one PART of the next `maxPages` dirty pages of the sweep. In postcopy the
   * sweep starts over after the last block; in precopy it ends there.
   *
   * @param direct - may be used for some of the pages
   * @returns bytes to send (with `direct`: where they end in `out`); 0 at the end of the sweep
   */
  packPart(out: Uint8Array, maxPages: number, direct?: DirectSend): number {
    const before = this.remainingPages
    const start = writeRamSectionHead(out, 'part', this.sectionId)
    const end = this.#packSweep(out, start, maxPages, direct)
    return this.remainingPages === before ? 0 : writeRamSectionTail(out, end, this.sectionId)
  }

  /**
   * Fills `out` with one PART of requested pages, and of up to `aheadPages` guessed ones.
   *
   * @returns bytes to send; 0 if no requested page is owed any more
   */
  packRequested(out: Uint8Array, aheadPages = 0): number {
    const start = writeRamSectionHead(out, 'part', this.sectionId)
    let end = this.#packQueue(this.#requested, 'main', out, start)
    if (end > start) end = this.#packQueue(this.#ahead, 'main', out, end, aheadPages)
    return end === start ? 0 : writeRamSectionTail(out, end, this.sectionId)
  }

  /** Fills `out` with one PART of up to `maxPages` guessed pages; 0 if there are none. */
  packAhead(out: Uint8Array, maxPages: number): number {
    const start = writeRamSectionHead(out, 'part', this.sectionId)
    const end = this.#packQueue(this.#ahead, 'main', out, start, maxPages)
    return end === start ? 0 : writeRamSectionTail(out, end, this.sectionId)
  }

  /**
   * Fills `out` with requested pages for the preempt channel: records without a section (protocol
   * section 8).
   */
  packUrgent(out: Uint8Array): number {
    return this.#packQueue(this.#requested, 'preempt', out, 0)
  }

  /** Fills `out` with one PART of the next `maxPages` pages of a replay; 0 if it is over. */
  packReplay(out: Uint8Array, replay: Replay, maxPages: number): number {
    const start = writeRamSectionHead(out, 'part', this.sectionId)
    let at = start
    for (let left = maxPages; left > 0;) {
      const run = replay.peek()
      if (run === undefined) break
      const range = { from: run.first, to: run.end, maxPages: left }
      const { end, pages, nextPage, isOnDisk } = this.#pack('main', out, at, run.tracked, range)
      if (isOnDisk) this.#packer.loadAhead(run.tracked, nextPage)
      if (end === at) break
      at = end
      left -= pages
      this.#counters.replayedPages += pages / run.tracked.block.hostPages
    }
    return at === start ? 0 : writeRamSectionTail(out, at, this.sectionId)
  }

  #packQueue(
    queue: PageQueue,
    channel: ChannelName,
    out: Uint8Array,
    start: number,
    maxPages = Infinity,
  ): number {
    const enough = this.remainingPages - maxPages
    let at = start
    let skipped = 0
    for (let next = queue.peek(); next !== undefined; next = queue.peek()) {
      if (this.remainingPages <= enough) break
      const { tracked, page } = next
      const { hostPages } = tracked.block
      const range = { from: page, to: page + hostPages, maxPages: hostPages }
      const { end, isOnDisk } = this.#pack(channel, out, at, tracked, range)
      if (isOnDisk) {
        // Requests for pages that are in the page cache do not wait for this one.
        if (skipped === MOST_SKIPPED) break
        skipped += 1
        queue.setAside(next)
        this.#load(queue, next)
        continue
      }
      if (end === at) break
      at = end
      this.#blockIndex = this.#blocks.indexOf(tracked)
      this.#page = page + hostPages
    }
    return at
  }

  /** Reads a page from disk that was taken out of its queue. */
  #load(queue: PageQueue, { tracked, page }: PageRequest): void {
    const again = (): void => queue.add(tracked, page, page + tracked.block.hostPages)
    // A guessed page is only read ahead with the sweep, because a right guess is requested anyway.
    if (queue === this.#ahead) this.#packer.loadAhead(tracked, page)
    else if (!this.#packer.loadRequested(tracked, page, again)) again()
  }

  /**
   * Fills `out` with the next piece of the END section, which carries all remaining pages.
   *
   * @param first - whether this is the first piece
   */
  packEnd(out: Uint8Array, first: boolean): EndPiece {
    const start = first ? writeRamSectionHead(out, 'end', this.sectionId) : 0
    const end = this.#packSweep(out, start, Infinity)
    const complete = this.remainingPages === 0
    // No page follows the section: pages that are still left out are zero at the destination.
    if (complete) this.#leftOut = new Map()
    return { lengthBytes: complete ? writeRamSectionTail(out, end, this.sectionId) : end, complete }
  }

  #packSweep(out: Uint8Array, start: number, maxPages: number, direct?: DirectSend): number {
    let at = start
    let left = Math.min(maxPages, this.remainingPages)
    while (left > 0) {
      const tracked = this.#blocks[this.#blockIndex]
      if (tracked === undefined) {
        if (!this.#packer.isPostcopy) break
        this.beginRound()
        continue
      }
      const range = { from: this.#page, to: tracked.block.pageCount, maxPages: left }
      const { end, pages, nextPage, isOnDisk } = this.#pack('main', out, at, tracked, range, direct)
      if (isOnDisk) this.#packer.loadAhead(tracked, nextPage)
      at = end
      left -= pages
      this.#page = nextPage
      // Stopped early: the buffer, batch or socket is full, or the destination has sent something.
      if (nextPage < tracked.block.pageCount) break
      this.#blockIndex += 1
      this.#page = 0
    }
    return at
  }

  #pack(...args: Parameters<PagePacker['pack']>): PackResult {
    const packed = this.#packer.pack(...args)
    this.#remain(this.#remainingPages - packed.pages)
    return packed
  }
}

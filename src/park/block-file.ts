/** A RAM block in a sparse file: zero pages and discarded pages are holes. */
import { closeSync, ftruncateSync } from 'node:fs'
import { PostcopyError } from '../errors.js'
import { isZero, kernelError, MemoryRegion, StoreCall, storeRecords } from '../kernel/index.js'
import { PageBitmap } from '../ram/index.js'
import {
  RAM_PAGE_RECORD_BYTES,
  RAM_RECORD_HEAD_BYTES,
  RAM_ZERO_RECORD_BYTES,
  RamFlag,
} from '../stream/index.js'
import { writeRamRecordHead } from '../stream/internal.js'
import { TARGET_PAGE_SIZE } from '../units.js'
import { PageChecksums } from './page-checksums.js'
import { readAt } from './read-at.js'
import { Writeback } from './writeback.js'

export interface BlockFileOptions {
  readonly name: string
  readonly file: string
  readonly lengthBytes: number
  readonly pageSizeBytes: number
}

export class BlockFile {
  readonly name: string
  readonly file: string
  readonly lengthBytes: number
  readonly pageSizeBytes: number
  /** Pages received and not discarded since. */
  readonly received: PageBitmap
  /** Discarded pages: the source will send them (again). */
  readonly discarded: PageBitmap
  readonly #fd: number
  /** Received zero pages: holes in the file. */
  readonly #zeroed: PageBitmap
  /** A mapping used only to punch holes; its memory is never accessed. */
  readonly #region: MemoryRegion
  readonly #storing = new StoreCall()
  readonly #checksums = new PageChecksums()
  readonly #writeback: Writeback
  /** One record built from its parts, so that every page is written by the same code. */
  readonly #record = new Uint8Array(RAM_PAGE_RECORD_BYTES)

  /** @param fd - of a new file; this object owns it from now on */
  static create(fd: number, block: BlockFileOptions): BlockFile {
    return closedOnFailure(fd, () => {
      ftruncateSync(fd, block.lengthBytes)
      return new BlockFile(fd, block)
    })
  }

  /**
   * Continues with an existing file. Pages that are not marked as received count as owed, and
   * become holes.
   *
   * @param fd - this object owns it from now on
   */
  static reopen(fd: number, block: BlockFileOptions, received: PageBitmap): BlockFile {
    const reopened = closedOnFailure(fd, () => new BlockFile(fd, block))
    try {
      reopened.#restore(received)
      return reopened
    } catch (error) {
      reopened.close()
      throw error
    }
  }

  private constructor(fd: number, block: BlockFileOptions) {
    this.#fd = fd
    this.#writeback = new Writeback(fd)
    this.name = block.name
    this.file = block.file
    this.lengthBytes = block.lengthBytes
    this.pageSizeBytes = block.pageSizeBytes
    this.#region = MemoryRegion.openFile({ fd, lengthBytes: this.lengthBytes, writable: true })
    const pageCount = this.lengthBytes / TARGET_PAGE_SIZE
    this.received = new PageBitmap(pageCount)
    this.discarded = new PageBitmap(pageCount)
    this.#zeroed = new PageBitmap(pageCount)
  }

  #restore(received: PageBitmap): void {
    this.received.bytes.set(received.bytes)
    this.discarded.setAll()
    this.discarded.remove(this.received)
    for (const [start, end] of this.discarded.runs()) {
      this.#region.discard(start * TARGET_PAGE_SIZE, (end - start) * TARGET_PAGE_SIZE)
    }
    this.#readPages()
  }

  /**
   * Takes complete records that need no name.
   *
   * @returns bytes taken; stops before any other record
   * @throws KernelError `ENOSPC` if the disk is full, `EIO`, …
   */
  records(
    bytes: Uint8Array,
    start: number,
    end: number,
  ): { taken: number; normal: number; zero: number } {
    const call = this.#storing
    call.usedLength = this.lengthBytes
    call.start = start
    call.end = end
    const taken = storeRecords(this.#fd, this.received.bytes, this.#zeroed.bytes, bytes, call)
    if (call.errno !== 0) {
      const where = `${this.file} (RAM block "${this.name}") + ${call.offset}`
      throw kernelError(-call.errno, 'pwrite', where)
    }
    // While the processor's cache still has the pages.
    this.#checksums.records(bytes, start, start + taken)
    this.#writeback.wrote(call.normalPages)
    return { taken, normal: call.normalPages, zero: call.zeroPages }
  }

  /** Takes a page from a record with a name. */
  page(offset: number, bytes: Uint8Array, start: number): void {
    this.#record.set(bytes.subarray(start, start + TARGET_PAGE_SIZE), RAM_RECORD_HEAD_BYTES)
    this.#single(RamFlag.page, offset, RAM_PAGE_RECORD_BYTES)
  }

  zero(offset: number): void {
    this.#record[RAM_RECORD_HEAD_BYTES] = 0
    this.#single(RamFlag.zero, offset, RAM_ZERO_RECORD_BYTES)
  }

  #single(
    kind: typeof RamFlag.page | typeof RamFlag.zero,
    offset: number,
    lengthBytes: number,
  ): void {
    writeRamRecordHead(this.#record, kind, offset)
    this.records(this.#record, 0, lengthBytes)
  }

  /** Makes a range a hole that counts as not received. */
  discard(start: number, lengthBytes: number): void {
    this.#region.discard(start, lengthBytes)
    const from = start / TARGET_PAGE_SIZE
    const to = from + lengthBytes / TARGET_PAGE_SIZE
    this.received.clearRange(from, to)
    this.#zeroed.clearRange(from, to)
    this.discarded.setRange(from, to)
    this.#checksums.clear(from, to)
  }

  /** Counts the pages that were not received as zero pages: they are holes already. */
  takeLeftOut(): void {
    this.#zeroed.add(this.received.complement())
    this.received.setAll()
  }

  #readPages(): void {
    const page = new Uint8Array(TARGET_PAGE_SIZE)
    for (const [start, end] of this.received.runs()) {
      for (let index = start; index < end; index += 1) {
        readAt(this.#fd, page, index * TARGET_PAGE_SIZE)
        if (isZero(page)) this.#zeroed.set(index)
        else this.#checksums.page(index, page)
      }
    }
  }

  get pageCount(): number {
    return this.received.pageCount
  }

  get dataPages(): number {
    return this.received.count() - this.#zeroed.count()
  }

  /** Whether every discarded page was received again. */
  get hasAllDiscarded(): boolean {
    for (const [start, end] of this.discarded.runs()) {
      if (!this.received.all(start, end)) return false
    }
    return true
  }

  /**
   * Waits until the whole file is on disk.
   *
   * @throws PostcopyError with the errno name, again at each later call: pages may be lost
   */
  sync(): void {
    try {
      this.#writeback.finish()
    } catch (cause) {
      const code = (cause as NodeJS.ErrnoException).code ?? 'ERR_UNKNOWN'
      throw new PostcopyError(
        code,
        `${this.file} (RAM block "${this.name}") was not written to disk (${code}), and pages of it may be lost: check the disk, or park to a directory on another one`,
        { cause },
      )
    }
  }

  /** Of what was received, by `crc32c-pages`. */
  checksum(): string {
    return this.#checksums.digest
  }

  close(): void {
    this.#region.close()
    this.#writeback.close()
  }
}

function closedOnFailure<T>(fd: number, open: () => T): T {
  try {
    return open()
  } catch (error) {
    closeSync(fd)
    throw error
  }
}

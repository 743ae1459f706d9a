/** Begins to write a file to disk while it is received, so that the sync at the end has less to wait for. */
import { closeSync, fdatasync, fsyncSync } from 'node:fs'

/** Pages after which the kernel is asked to write them: 32 MiB. */
const BATCH_PAGES = 8192

/** What a test replaces. */
export interface SyncCalls {
  readonly begin: (fd: number, done: (error: Error | null) => void) => void
  readonly sync: (fd: number) => void
  readonly close: (fd: number) => void
}

const ofNode: SyncCalls = { begin: fdatasync, sync: fsyncSync, close: closeSync }

export class Writeback {
  readonly #fd: number
  readonly #calls: SyncCalls
  #unsyncedPages = 0
  #isSyncing = false
  #isClosed = false
  /** The kernel reports an error of the disk to one call only. */
  #error: Error | undefined

  /** @param fd - this object owns it from now on */
  constructor(fd: number, calls = ofNode) {
    this.#fd = fd
    this.#calls = calls
  }

  /** Call after pages were written. Does not wait for the disk. */
  wrote(pages: number): void {
    this.#unsyncedPages += pages
    if (this.#unsyncedPages < BATCH_PAGES || this.#isSyncing || this.#isClosed) return
    this.#unsyncedPages = 0
    this.#isSyncing = true
    this.#calls.begin(this.#fd, (error) => {
      this.#isSyncing = false
      if (error !== null) this.#error ??= error
      if (this.#isClosed) this.#calls.close(this.#fd)
    })
  }

  /**
   * Waits until the whole file is on disk.
   *
   * @throws the first error of the disk, also of an earlier batch
   */
  finish(): void {
    this.#calls.sync(this.#fd)
    if (this.#error !== undefined) throw this.#error
  }

  /** Closes the file, after the last call on it. */
  close(): void {
    if (this.#isClosed) return
    this.#isClosed = true
    if (!this.#isSyncing) this.#calls.close(this.#fd)
  }
}

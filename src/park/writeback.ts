/** Begins to write a file to disk while it is received, so that the sync at the end has less to wait for. */
import { closeSync, constants, fdatasync, fsyncSync, openSync } from 'node:fs'

/** Pages after which the kernel is asked to write them: 32 MiB. */
const BATCH_PAGES = 8192

/** What a test replaces. */
export interface SyncCalls {
  /** Opens the same file with a file description of its own. */
  readonly reopen: (fd: number) => number
  readonly begin: (fd: number, done: (error: Error | null) => void) => void
  readonly sync: (fd: number) => void
  readonly close: (fd: number) => void
}

const ofNode: SyncCalls = {
  reopen: (fd) => openSync(`/proc/self/fd/${fd}`, constants.O_RDONLY),
  begin: fdatasync,
  sync: fsyncSync,
  close: closeSync,
}

/**
 * The kernel reports an error of the disk once for each open file description. So batches are
 * synced by a description of their own: the sync at the end then reports the error of a batch too,
 * even if the result of that batch is not known yet.
 */
export class Writeback {
  readonly #fd: number
  readonly #calls: SyncCalls
  /** Of the description for batches; undefined before the first one. */
  #batchFd: number | undefined
  #unsyncedPages = 0
  #isSyncing = false
  #isClosed = false
  /** The first error: a later sync succeeds, although pages may be lost. */
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
    const fd = this.#openForBatches()
    if (fd === undefined) return
    this.#isSyncing = true
    this.#calls.begin(fd, (error) => {
      this.#isSyncing = false
      if (error !== null) this.#error ??= error
      if (this.#isClosed) this.#calls.close(fd)
    })
  }

  /** @returns undefined if it cannot be opened: {@link finish} then writes everything */
  #openForBatches(): number | undefined {
    try {
      return (this.#batchFd ??= this.#calls.reopen(this.#fd))
    } catch {
      return undefined
    }
  }

  /**
   * Waits until the whole file is on disk.
   *
   * @throws the first error of the disk, also of a batch; the same again if it is called again
   */
  finish(): void {
    if (this.#error === undefined) {
      try {
        this.#calls.sync(this.#fd)
      } catch (error) {
        this.#error = error instanceof Error ? error : new Error(String(error))
      }
    }
    if (this.#error !== undefined) throw this.#error
  }

  /** Closes the file, and after the last batch also its other description. */
  close(): void {
    if (this.#isClosed) return
    this.#isClosed = true
    this.#calls.close(this.#fd)
    if (this.#batchFd !== undefined && !this.#isSyncing) this.#calls.close(this.#batchFd)
  }
}

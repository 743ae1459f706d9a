import { NO_HANDLE_HINT, checkOptions, closedError, kernelError } from './check.js'
import { native } from './load.js'
import type { NativePageFile } from './native.js'

export interface PageFileOptions {
  /** The files. Each is duplicated; the caller keeps and closes its own. */
  fds: readonly number[]
  /** Whole pages. */
  lengthBytes: number
  /**
   * Rows of {@link PageFileRun}, ascending by page, without overlap: `pageCount` pages from
   * `firstPage` on. The 4096 bytes of the first one are at `offset` of `fds[file]`, and those of
   * each next one `strideBytes` after them. A page in no run is zero.
   */
  runs: Float64Array
  /** One bit a page: a page of a run whose bit is clear is zero, too. Default: all bits are set. */
  data?: Uint8Array
}

/** For the other files of this folder: the handle of an open file. */
export let pageFileHandle: (file: PageFile) => NativePageFile

/**
 * The pages of a RAM block in files that are only read, such as the RAM of a saved VM. They are
 * read with preadv2(2) and never mapped, so a truncated file is an error and not a SIGBUS.
 *
 * A handle belongs to the thread that made it; {@link PageFile.attach} makes another one from the
 * id, in any worker. The files are closed when the last handle is closed or garbage collected.
 */
export class PageFile {
  readonly id: number
  readonly lengthBytes: number
  readonly pageSizeBytes = 4096
  #handle: NativePageFile | undefined

  private constructor(handle: NativePageFile) {
    const { id, lengthBytes } = native().pageFileInfo(handle)
    this.#handle = handle
    this.id = id
    this.lengthBytes = lengthBytes
  }

  /**
   * @throws KernelError `EMFILE`, `EBADF`; RangeError for runs that do not ascend, overlap, or are
   *   not inside the block
   */
  static open(options: PageFileOptions): PageFile {
    checkOptions(options, ['fds', 'lengthBytes', 'runs', 'data'])
    const { fds, lengthBytes, runs, data } = options
    const opened = native().pageFileOpen(Int32Array.from(fds), lengthBytes, runs, data)
    if (typeof opened !== 'number') return new PageFile(opened)
    throw kernelError(opened, 'fcntl', `fds ${fds.join(', ')}, F_DUPFD_CLOEXEC`)
  }

  /**
   * Makes another handle on a file of this process.
   *
   * @throws KernelError `ENOENT` if all its handles were closed or garbage collected
   */
  static attach(id: number): PageFile {
    const handle = native().pageFileAttach(id)
    if (typeof handle !== 'number') return new PageFile(handle)
    throw kernelError(handle, 'attach', `page file ${id}`, NO_HANDLE_HINT)
  }

  /** Whether this handle was closed. */
  get isClosed(): boolean {
    return this.#handle === undefined
  }

  /**
   * Finds a page.
   *
   * @param out - gets a row of {@link PageFileRun}: the rest of the page's run, whose `file` is a
   *   descriptor that is valid while a handle is open
   * @returns whether the page is in a file; otherwise it is zero
   */
  find(page: number, out: Float64Array): boolean {
    return native().pageFileFind(this.#open(), page, out) === 1
  }

  /** Closes this handle; may be called twice. */
  close(): void {
    const handle = this.#handle
    this.#handle = undefined
    if (handle !== undefined) native().pageFileClose(handle)
  }

  [Symbol.dispose](): void {
    this.close()
  }

  #open(): NativePageFile {
    if (this.#handle === undefined) throw closedError(`page file ${this.id}`)
    return this.#handle
  }

  static {
    pageFileHandle = (file) => file.#open()
  }
}

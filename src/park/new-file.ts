/**
 * A file that appears when it is complete. Until then it is `FILE.partial-…` beside it, accessible
 * to its owner only because it contains guest memory.
 */
import {
  close,
  closeSync,
  constants,
  fstatSync,
  fsync,
  linkSync,
  lstatSync,
  openSync,
  renameSync,
  rmSync,
  statfsSync,
  write,
} from 'node:fs'
import { randomBytes } from 'node:crypto'
import { basename, dirname } from 'node:path'
import { promisify } from 'node:util'
import { PostcopyError } from '../errors.js'
import { formatByteSize } from '../units.js'
import type { PositionedSink } from './byte-sink.js'

const writeFile = promisify(write)
const syncFile = promisify(fsync)
const closeFile = promisify(close)

const OWNER_ONLY = 0o600
const STAT_BLOCK_BYTES = 512
/** Errors of link(2) on file systems that have no hard links. */
const NO_LINKS = ['EPERM', 'EOPNOTSUPP', 'ENOSYS', 'EMLINK']

export interface NewFileOptions {
  /** Replace a regular file that exists. */
  readonly replace: boolean
  /** Bytes that the file will need on disk, for the error of a disk that is full. */
  readonly needBytes: number
}

export class NewFile implements PositionedSink {
  readonly path: string
  lengthBytes = 0
  readonly #partial: string
  readonly #options: NewFileOptions
  /** -1 after it is closed. */
  #fd: number
  readonly #directoryFd: number
  #diskBytes = 0

  /**
   * @throws PostcopyError `ERR_FILE_EXISTS`; `ERR_FILE_KIND` if it exists and is not a regular
   *   file; the errno name if it cannot be created
   */
  static create(path: string, options: NewFileOptions): NewFile {
    if (basename(path) === '') {
      throw new PostcopyError('ERR_INVALID_OPTION', `"${path}" does not name a file`)
    }
    refuseExisting(path, options.replace)
    const directoryFd = openDirectory(path)
    const partial = `${path}.partial-${randomBytes(4).toString('hex')}`
    try {
      const fd = openSync(partial, 'wx+', OWNER_ONLY)
      return new NewFile(path, partial, { file: fd, directory: directoryFd }, options)
    } catch (error) {
      closeSync(directoryFd)
      throw explained(path, 'created', error)
    }
  }

  private constructor(
    path: string,
    partial: string,
    fds: { file: number; directory: number },
    options: NewFileOptions,
  ) {
    this.path = path
    this.#partial = partial
    this.#fd = fds.file
    this.#directoryFd = fds.directory
    this.#options = options
  }

  /** Bytes on disk of the finished file, without holes. */
  get diskBytes(): number {
    return this.#diskBytes
  }

  async append(bytes: Uint8Array): Promise<void> {
    const at = this.lengthBytes
    this.lengthBytes += bytes.length
    await this.writeAt(bytes, at)
  }

  /**
   * Writes anywhere in the file; a gap becomes a hole. {@link append} continues after the end.
   *
   * @throws PostcopyError with the errno name
   */
  async writeAt(bytes: Uint8Array, position: number): Promise<void> {
    this.lengthBytes = Math.max(this.lengthBytes, position + bytes.length)
    try {
      for (let at = 0; at < bytes.length;) {
        const left = bytes.length - at
        at += (await writeFile(this.#fd, bytes, at, left, position + at)).bytesWritten
      }
    } catch (error) {
      throw this.#writeError(error)
    }
  }

  /**
   * @throws PostcopyError with the errno name. The file then does not exist, unless the message
   *   states that it is complete
   */
  async finish(): Promise<void> {
    try {
      await syncFile(this.#fd)
      this.#diskBytes = fstatSync(this.#fd).blocks * STAT_BLOCK_BYTES
      this.#moveIntoPlace()
    } catch (error) {
      throw this.#writeError(error)
    }
    await this.#close()
  }

  discard(): void {
    if (this.#fd < 0) return
    closeSync(this.#fd)
    closeSync(this.#directoryFd)
    this.#fd = -1
    rmSync(this.#partial, { force: true })
  }

  /** Unlike rename(2), link(2) never replaces a file that has appeared meanwhile. */
  #moveIntoPlace(): void {
    if (!this.#options.replace) {
      try {
        linkSync(this.#partial, this.path)
        rmSync(this.#partial)
        return
      } catch (error) {
        if (codeOf(error) === 'EEXIST') throw existing(this.path)
        if (!NO_LINKS.includes(codeOf(error))) throw error
        refuseExisting(this.path, false)
      }
    }
    renameSync(this.#partial, this.path)
  }

  /** Closes the file, and waits until its directory entry is on disk. */
  async #close(): Promise<void> {
    const fd = this.#fd
    this.#fd = -1
    try {
      await closeFile(fd)
      await syncFile(this.#directoryFd)
    } catch (error) {
      const code = codeOf(error)
      const text = `${this.path} is complete, but its directory cannot be written to disk (${code}): after a crash of this host the file may be missing`
      throw new PostcopyError(code, text, { cause: error })
    } finally {
      closeSync(this.#directoryFd)
    }
  }

  #writeError(error: unknown): PostcopyError {
    const cause = explained(this.path, 'written', error)
    const why = this.#shortage(cause.code)
    if (why === undefined) return cause
    const need = formatByteSize(this.#options.needBytes)
    const text = `${cause.message}: it needs ${need}, and ${why}. Nothing is left of it`
    return new PostcopyError(cause.code, text, { cause: error })
  }

  /** What there is too little of; undefined for other errors. */
  #shortage(code: string): string | undefined {
    if (code === 'EFBIG') return 'files here, or of this process, may not be as long'
    if (code === 'EDQUOT') return 'the disk quota of its owner is used up'
    if (code !== 'ENOSPC') return undefined
    const { bavail, bsize } = statfsSync(dirname(this.path))
    const room = bavail * bsize + fstatSync(this.#fd).blocks * STAT_BLOCK_BYTES
    return `its file system has room for ${formatByteSize(room)}`
  }
}

function refuseExisting(path: string, replace: boolean): void {
  let stat
  try {
    stat = lstatSync(path, { throwIfNoEntry: false })
  } catch (error) {
    throw explained(path, 'created', error)
  }
  if (stat === undefined) return
  if (!replace) throw existing(path)
  if (stat.isFile()) return
  throw new PostcopyError('ERR_FILE_KIND', `${path} is not a regular file, and is not replaced`)
}

function existing(path: string): PostcopyError {
  const advice = 'give another name, or replace it with --force'
  return new PostcopyError('ERR_FILE_EXISTS', `${path} exists: ${advice}`)
}

/** Before the file is made: a directory that cannot be read cannot be synced afterwards. */
function openDirectory(path: string): number {
  const directory = dirname(path)
  try {
    return openSync(directory, constants.O_RDONLY | constants.O_DIRECTORY)
  } catch (cause) {
    const code = codeOf(cause)
    const advice =
      code === 'EACCES' ? ': allow its user to read it, or export to another directory' : ''
    const text = `${path} cannot be created, because the directory ${directory} cannot be opened (${code})${advice}`
    throw new PostcopyError(code, text, { cause })
  }
}

function explained(path: string, how: string, cause: unknown): PostcopyError {
  if (cause instanceof PostcopyError) return cause
  const code = codeOf(cause)
  return new PostcopyError(code, `${path} cannot be ${how} (${code})`, { cause })
}

function codeOf(error: unknown): string {
  return (error as NodeJS.ErrnoException).code ?? 'ERR_UNKNOWN'
}

/**
 * The only access to the files of parked VMs, spills and working sets. A file is opened only if no
 * other user can have put it there. So the directory and the file must belong to this user or to
 * root. The file must be regular and have one name. Links are never followed.
 *
 * The directory is opened once, and names are resolved relative to its descriptor. A directory that
 * takes its place later changes nothing.
 */
import {
  type BigIntStats,
  closeSync,
  constants,
  fstatSync,
  fsyncSync,
  lstatSync,
  mkdirSync,
  openSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { randomUUID } from 'node:crypto'
import { join, resolve } from 'node:path'
import { PostcopyError } from '../errors.js'
import { readAt } from './read-at.js'

const OWNER_ONLY_DIRECTORY = 0o700
const OWNER_ONLY_FILE = 0o600
const WRITABLE_BY_OTHERS = 0o022n
const STICKY = 0o1000n
const ROOT = 0n

/** O_NONBLOCK: opening a FIFO must not block; fstat(2) shows later that it is not a file. */
const OPEN = constants.O_NOFOLLOW | constants.O_NONBLOCK
const CREATE = constants.O_CREAT | constants.O_EXCL | constants.O_RDWR | constants.O_NOFOLLOW

export interface TrustOptions {
  /**
   * Accept a directory that belongs to another user, or that other users may write, and files of
   * other users in it. They can then change what is read and written there. Default false.
   */
  allowForeignDirectory?: boolean
}

/** Descriptors, for another thread of this process. */
export interface TrustedHandle {
  readonly path: string
  readonly fd: number
  readonly allowForeign: boolean
}

export class TrustedDirectory {
  readonly path: string
  /** -1 after it is closed. */
  #fd: number
  readonly #allowForeign: boolean
  #isOwner = true

  /** @throws PostcopyError `ERR_PARKED_UNTRUSTED`; the errno name if it cannot be opened */
  static open(
    path: string,
    { allowForeignDirectory = false }: TrustOptions = {},
  ): TrustedDirectory {
    return TrustedDirectory.#open(path, path, 0, allowForeignDirectory)
  }

  /** Uses the directory that another thread has opened, and will close. */
  static attach({ path, fd, allowForeign }: TrustedHandle): TrustedDirectory {
    const directory = new TrustedDirectory(path, fd, allowForeign)
    directory.#isOwner = false
    return directory
  }

  static #open(path: string, at: string, flags: number, allowForeign: boolean): TrustedDirectory {
    const mode = constants.O_RDONLY | constants.O_DIRECTORY | flags
    const fd = explained(path, 'opened', () => openSync(at, mode))
    const directory = new TrustedDirectory(resolve(path), fd, allowForeign)
    try {
      if (!allowForeign) directory.#refuseForeign()
    } catch (error) {
      directory.close()
      throw error
    }
    return directory
  }

  private constructor(path: string, fd: number, allowForeign: boolean) {
    this.path = path
    this.#fd = fd
    this.#allowForeign = allowForeign
  }

  get handle(): TrustedHandle {
    return { path: this.path, fd: this.#fd, allowForeign: this.#allowForeign }
  }

  /** Opens a subdirectory; rejects a link. */
  openDirectory(name: string): TrustedDirectory {
    const path = join(this.path, name)
    // With O_DIRECTORY, open(2) fails for a link with ENOTDIR.
    if (this.#stat(name)?.isSymbolicLink() === true) throw untrusted(`${path} is a symbolic link`)
    return TrustedDirectory.#open(path, this.#at(name), constants.O_NOFOLLOW, this.#allowForeign)
  }

  /** Creates a subdirectory, accessible to its owner only. @throws PostcopyError `EEXIST`, … */
  createDirectory(name: string): TrustedDirectory {
    explained(join(this.path, name), 'made', () =>
      mkdirSync(this.#at(name), { mode: OWNER_ONLY_DIRECTORY }),
    )
    return this.openDirectory(name)
  }

  /**
   * Opens an existing file.
   *
   * @returns a descriptor that belongs to the caller
   * @throws PostcopyError `ERR_PARKED_UNTRUSTED`; the errno name if it cannot be opened
   */
  openFile(name: string, access: 'read' | 'write'): number {
    const path = join(this.path, name)
    const mode = access === 'read' ? constants.O_RDONLY : constants.O_RDWR
    const fd = explained(path, 'opened', () => openSync(this.#at(name), mode | OPEN))
    try {
      this.#refuseUntrusted(path, fstatSync(fd, { bigint: true }))
    } catch (error) {
      closeSync(fd)
      throw error
    }
    return fd
  }

  /** Creates a file, accessible to its owner only, and opens it for reading and writing. */
  createFile(name: string): number {
    return explained(join(this.path, name), 'made', () =>
      openSync(this.#at(name), CREATE, OWNER_ONLY_FILE),
    )
  }

  /**
   * Reads a whole file.
   *
   * @param checkLength - called with its length before anything is read; throws to reject it
   */
  readFile(name: string, checkLength: (lengthBytes: number) => void): Buffer {
    const fd = this.openFile(name, 'read')
    try {
      const lengthBytes = fstatSync(fd).size
      checkLength(lengthBytes)
      const bytes = Buffer.alloc(lengthBytes)
      const path = join(this.path, name)
      const end = explained(path, 'read', () => readAt(fd, bytes, 0))
      return bytes.subarray(0, end)
    } finally {
      closeSync(fd)
    }
  }

  /** Writes a whole file and syncs it to disk. Replaces an existing file atomically. */
  replaceFile(name: string, bytes: Uint8Array): void {
    const fresh = `${name}.${randomUUID()}.new`
    try {
      explained(join(this.path, name), 'written', () => {
        const fd = openSync(this.#at(fresh), CREATE, OWNER_ONLY_FILE)
        try {
          writeFileSync(fd, bytes)
          fsyncSync(fd)
        } finally {
          closeSync(fd)
        }
        renameSync(this.#at(fresh), this.#at(name))
      })
    } catch (error) {
      this.remove(fresh)
      throw error
    }
  }

  /** Whether anything has this name, including a dangling link. */
  has(name: string): boolean {
    return this.#stat(name) !== undefined
  }

  /** Bytes on disk of a file, without holes; 0 if it does not exist. */
  diskBytes(name: string): number {
    const statBlockBytes = 512n
    return Number((this.#stat(name)?.blocks ?? 0n) * statBlockBytes)
  }

  /** Whether `name` is this very directory, and not one that has taken its place. */
  isDirectory(name: string, directory: TrustedDirectory): boolean {
    const { dev, ino } = fstatSync(directory.#fd, { bigint: true })
    const stat = this.#stat(name)
    return stat?.dev === dev && stat.ino === ino
  }

  rename(from: string, to: string): void {
    explained(join(this.path, from), 'renamed', () => renameSync(this.#at(from), this.#at(to)))
  }

  /** Removes a file, or a directory with its contents; does nothing if it does not exist. */
  remove(name: string): void {
    explained(join(this.path, name), 'removed', () =>
      rmSync(this.#at(name), { recursive: true, force: true }),
    )
  }

  /** Waits until the directory entries are on disk. */
  sync(): void {
    fsyncSync(this.#fd)
  }

  /** May be called twice. */
  close(): void {
    const fd = this.#fd
    this.#fd = -1
    if (this.#isOwner && fd >= 0) closeSync(fd)
  }

  /** As openat(2), because Node has no call that takes a descriptor and a name. */
  #at(name: string): string {
    return `/proc/self/fd/${this.#fd}/${name}`
  }

  #stat(name: string): BigIntStats | undefined {
    return lstatSync(this.#at(name), { bigint: true, throwIfNoEntry: false })
  }

  #refuseForeign(): void {
    const stat = fstatSync(this.#fd, { bigint: true })
    const advice = 'their files could be mistaken for yours (--allow-foreign-directory accepts it)'
    if (!isOurs(stat)) {
      throw untrusted(`${this.path} belongs to user ${stat.uid}: ${advice}`)
    }
    // In a sticky directory only the owners of files can replace them.
    if ((stat.mode & WRITABLE_BY_OTHERS) !== 0n && (stat.mode & STICKY) === 0n) {
      throw untrusted(`${this.path} is a directory that other users may write: ${advice}`)
    }
  }

  #refuseUntrusted(path: string, stat: BigIntStats): void {
    if (!stat.isFile()) throw untrusted(`${path} is not a regular file`)
    if (stat.nlink !== 1n) {
      throw untrusted(`${path} has ${stat.nlink} names (hard links): copy it, and use the copy`)
    }
    if (!this.#allowForeign && !isOurs(stat)) {
      throw untrusted(
        `${path} belongs to user ${stat.uid} (--allow-foreign-directory accepts files of others)`,
      )
    }
  }
}

function isOurs({ uid }: BigIntStats): boolean {
  return uid === ROOT || uid === BigInt(process.geteuid?.() ?? 0)
}

function untrusted(text: string): PostcopyError {
  return new PostcopyError('ERR_PARKED_UNTRUSTED', text)
}

function explained<T>(path: string, how: string, act: () => T): T {
  try {
    return act()
  } catch (error) {
    const { code = 'ERR_UNKNOWN' } = error as NodeJS.ErrnoException
    if (code === 'ELOOP') throw untrusted(`${path} is a symbolic link`)
    throw new PostcopyError(code, `${path} cannot be ${how} (${code})`, { cause: error })
  }
}

/**
 * The directory of a VM that is being parked. Its name shows its state:
 *
 *   DIR.partial      before the device state is on disk; useless
 *   DIR.incomplete   has the device state and some pages; recovery can continue from it
 *   DIR              complete, on disk
 *
 * Each step is a rename(2) after fsync(2), so a crash leaves the old state or the new one.
 */
import { basename, dirname, join, resolve } from 'node:path'
import { PostcopyError } from '../errors.js'
import { TrustedDirectory, type TrustOptions, type TrustedHandle } from './trusted-directory.js'

const PARTIAL = '.partial'
const INCOMPLETE = '.incomplete'

/** For another thread of this process, see {@link ParkDirectory.attach}. */
export interface ParkDirectoryHandle {
  readonly target: string
  readonly parent: TrustedHandle
  readonly own: TrustedHandle
}

export class ParkDirectory {
  readonly target: string
  readonly #parent: TrustedDirectory
  readonly #own: TrustedDirectory
  /** Its name in the parent directory. */
  #name: string

  private constructor(
    target: string,
    parent: TrustedDirectory,
    own: TrustedDirectory,
    name: string,
  ) {
    this.target = target
    this.#parent = parent
    this.#own = own
    this.#name = name
  }

  /** @throws PostcopyError as {@link create} would */
  static checkFree(directory: string, options: TrustOptions = {}): void {
    const target = resolve(directory)
    const parent = TrustedDirectory.open(dirname(target), options)
    try {
      refuseUsed(parent, basename(target))
    } finally {
      parent.close()
    }
  }

  /**
   * Creates `DIR.partial`, accessible to its owner only.
   *
   * @throws PostcopyError `ERR_PARKED_EXISTS` if DIR, or the rest of another attempt, exists;
   *   `ERR_PARKED_UNTRUSTED` for a parent that other users own or may write
   */
  static create(directory: string, options: TrustOptions = {}): ParkDirectory {
    const target = resolve(directory)
    const name = basename(target)
    const parent = TrustedDirectory.open(dirname(target), options)
    try {
      refuseUsed(parent, name)
      const own = parent.createDirectory(name + PARTIAL)
      return new ParkDirectory(target, parent, own, name + PARTIAL)
    } catch (error) {
      parent.close()
      throw error
    }
  }

  /**
   * Continues with `DIR.incomplete`.
   *
   * @throws PostcopyError `ERR_PARKED_EXISTS` if DIR exists, `ERR_PARKED_FORMAT` for another name,
   *   `ERR_PARKED_UNTRUSTED` for a directory that other users own or may write
   */
  static reopen(directory: string, options: TrustOptions = {}): ParkDirectory {
    const path = resolve(directory)
    if (!path.endsWith(INCOMPLETE)) {
      throw new PostcopyError('ERR_PARKED_FORMAT', `${path} is not a ${INCOMPLETE} directory`)
    }
    const target = path.slice(0, -INCOMPLETE.length)
    const parent = TrustedDirectory.open(dirname(path), options)
    try {
      refuseExisting(
        parent,
        basename(target),
        'the complete VM would be moved there: rename what is there',
      )
      const own = parent.openDirectory(basename(path))
      return new ParkDirectory(target, parent, own, basename(path))
    } catch (error) {
      parent.close()
      throw error
    }
  }

  /** Uses a `DIR.partial` that another thread has created, and will close. */
  static attach({ target, parent, own }: ParkDirectoryHandle): ParkDirectory {
    return new ParkDirectory(
      target,
      TrustedDirectory.attach(parent),
      TrustedDirectory.attach(own),
      basename(own.path),
    )
  }

  get handle(): ParkDirectoryHandle {
    return { target: this.target, parent: this.#parent.handle, own: this.#own.handle }
  }

  /** Its current path. */
  get path(): string {
    return join(this.#parent.path, this.#name)
  }

  /** The files in the directory. */
  get files(): TrustedDirectory {
    return this.#own
  }

  keepIncomplete(): void {
    this.#becomes(basename(this.target) + INCOMPLETE)
  }

  publish(): void {
    this.#becomes(basename(this.target))
  }

  /** Removes the directory and its files; another directory that has taken its place stays. */
  remove(): void {
    const target = basename(this.target)
    for (const name of [target + PARTIAL, target + INCOMPLETE]) {
      if (this.#parent.isDirectory(name, this.#own)) this.#parent.remove(name)
    }
  }

  /** May be called twice. */
  close(): void {
    this.#own.close()
    this.#parent.close()
  }

  #becomes(name: string): void {
    this.#own.sync()
    if (this.#name === name) return
    if (!this.#parent.isDirectory(this.#name, this.#own)) {
      const text = `${this.path} was removed, or replaced by another directory`
      throw new PostcopyError('ERR_PARKED_UNTRUSTED', text)
    }
    refuseExisting(this.#parent, name, 'it was created while the VM was being parked')
    this.#parent.rename(this.#name, name)
    this.#name = name
    this.#parent.sync()
  }
}

function refuseUsed(parent: TrustedDirectory, target: string): void {
  refuseExisting(parent, target, 'give another directory, or remove it')
  refuseExisting(parent, target + INCOMPLETE, 'it may be the only copy of a VM: recover it')
  refuseExisting(
    parent,
    target + PARTIAL,
    'another process is writing it; if that process was killed, remove it',
  )
}

function refuseExisting(parent: TrustedDirectory, name: string, advice: string): void {
  if (!parent.has(name)) return
  const path = join(parent.path, name)
  throw new PostcopyError('ERR_PARKED_EXISTS', `${path} exists: ${advice}`)
}

/**
 * The directory in the making. Its name says what it is worth:
 *
 *   DIR.partial      before the devices are here; worth nothing
 *   DIR.incomplete   has the devices and some pages; recovery can go on from it
 *   DIR              all of it, on disk
 *
 * Only rename(2) leads from one to the next, after fsync(2): a crash leaves the one or the other.
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
  /** Its name in the parent. */
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
   * Creates `DIR.partial`, readable by its owner alone.
   *
   * @throws PostcopyError `ERR_PARKED_EXISTS` where DIR or what is left of another attempt is in the way,
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
   * Goes on with `DIR.incomplete`.
   *
   * @throws PostcopyError `ERR_PARKED_EXISTS` where DIR is in the way, `ERR_PARKED_FORMAT` for another name,
   *   `ERR_PARKED_UNTRUSTED` for a directory that other users own or may write
   */
  static reopen(directory: string, options: TrustOptions = {}): ParkDirectory {
    const path = resolve(directory)
    if (!path.endsWith(INCOMPLETE)) {
      throw new PostcopyError('ERR_PARKED_FORMAT', `${path} is no ${INCOMPLETE} directory`)
    }
    const target = path.slice(0, -INCOMPLETE.length)
    const parent = TrustedDirectory.open(dirname(path), options)
    try {
      refuseExisting(parent, basename(target), 'it is where the whole VM would go')
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

  /** Where it is now. */
  get path(): string {
    return join(this.#parent.path, this.#name)
  }

  /** What is in it. */
  get files(): TrustedDirectory {
    return this.#own
  }

  keepIncomplete(): void {
    this.#becomes(basename(this.target) + INCOMPLETE)
  }

  publish(): void {
    this.#becomes(basename(this.target))
  }

  /** Removes all of it; what others have put in its place stays. */
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
      const text = `${this.path} is not there any more, or another directory has taken its place`
      throw new PostcopyError('ERR_PARKED_UNTRUSTED', text)
    }
    refuseExisting(this.#parent, name, 'it was not there before')
    this.#parent.rename(this.#name, name)
    this.#name = name
    this.#parent.sync()
  }
}

function refuseUsed(parent: TrustedDirectory, target: string): void {
  refuseExisting(parent, target, 'give another directory, or remove it')
  refuseExisting(parent, target + INCOMPLETE, 'it may be all that is left of a VM: recover it')
  refuseExisting(
    parent,
    target + PARTIAL,
    'another process writes it, or was killed: in that case remove it',
  )
}

function refuseExisting(parent: TrustedDirectory, name: string, advice: string): void {
  if (!parent.has(name)) return
  const path = join(parent.path, name)
  throw new PostcopyError('ERR_PARKED_EXISTS', `${path} exists: ${advice}`)
}

/**
 * The directory in the making. Its name says what it is worth:
 *
 *   DIR.partial      before the devices are here; worth nothing
 *   DIR.incomplete   has the devices and some pages; recovery can go on from it
 *   DIR              all of it, on disk
 *
 * Only rename(2) leads from one to the next, after fsync(2): a crash leaves the one or the other.
 */
import {
  closeSync,
  existsSync,
  fsyncSync,
  mkdirSync,
  openSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import { PostcopyError } from '../errors.js'

const OWNER_ONLY_DIRECTORY = 0o700
const OWNER_ONLY_FILE = 0o600

const PARTIAL = '.partial'
const INCOMPLETE = '.incomplete'

export class ParkDirectory {
  readonly target: string
  #path: string

  private constructor(target: string, path: string) {
    this.target = target
    this.#path = path
  }

  /** @throws PostcopyError `ERR_PARKED_EXISTS` where {@link create} would */
  static checkFree(directory: string): void {
    const target = resolve(directory)
    refuseExisting(target, 'give another directory, or remove it')
    refuseExisting(target + INCOMPLETE, 'it may be all that is left of a VM: recover it')
    refuseExisting(target + PARTIAL, 'somebody is writing it, or was killed: then remove it')
  }

  /** What there may be of one that was not published. */
  static unfinished(target: string): string[] {
    return [target + PARTIAL, target + INCOMPLETE]
  }

  /**
   * Creates `DIR.partial`, readable by its owner alone.
   *
   * @throws PostcopyError `ERR_PARKED_EXISTS` where DIR or what is left of another attempt is in the way
   */
  static create(directory: string): ParkDirectory {
    ParkDirectory.checkFree(directory)
    const target = resolve(directory)
    const path = target + PARTIAL
    mkdirSync(path, { mode: OWNER_ONLY_DIRECTORY })
    return new ParkDirectory(target, path)
  }

  /**
   * Goes on with `DIR.incomplete`.
   *
   * @throws PostcopyError `ERR_PARKED_EXISTS` where DIR is in the way, `ERR_PARKED_FORMAT` for another name
   */
  static reopen(directory: string): ParkDirectory {
    const path = resolve(directory)
    if (!path.endsWith(INCOMPLETE)) {
      throw new PostcopyError('ERR_PARKED_FORMAT', `${path} is no ${INCOMPLETE} directory`)
    }
    const target = path.slice(0, -INCOMPLETE.length)
    refuseExisting(target, 'it is where the whole VM would go')
    return new ParkDirectory(target, path)
  }

  /** Where it is now. */
  get path(): string {
    return this.#path
  }

  /** Opens a new file for a RAM block. */
  openFile(name: string): number {
    return openSync(join(this.#path, name), 'wx+', OWNER_ONLY_FILE)
  }

  /** Opens a RAM block again. */
  reopenFile(name: string): number {
    return openSync(join(this.#path, name), 'r+')
  }

  /** Writes a whole file and waits for the disk. Replaces one that is there in one step. */
  write(name: string, bytes: Uint8Array): void {
    const path = join(this.#path, name)
    const fresh = `${path}.new`
    writeSynced(fresh, 'w', bytes)
    renameSync(fresh, path)
  }

  removeFile(name: string): void {
    rmSync(join(this.#path, name), { force: true })
  }

  keepIncomplete(): void {
    this.#becomes(this.target + INCOMPLETE)
  }

  publish(): void {
    this.#becomes(this.target)
  }

  /** Removes all of it. */
  remove(): void {
    rmSync(this.#path, { recursive: true, force: true })
  }

  #becomes(path: string): void {
    syncDirectory(this.#path)
    if (this.#path === path) return
    refuseExisting(path, 'it was not there before')
    renameSync(this.#path, path)
    this.#path = path
    syncDirectory(dirname(path))
  }
}

function refuseExisting(path: string, advice: string): void {
  if (!existsSync(path)) return
  throw new PostcopyError('ERR_PARKED_EXISTS', `${path} exists: ${advice}`)
}

/** Writes a whole file, its owner's alone, and waits for the disk. */
export function writeSynced(path: string, flags: 'w' | 'wx', bytes: Uint8Array): void {
  const fd = openSync(path, flags, OWNER_ONLY_FILE)
  try {
    writeFileSync(fd, bytes)
    fsyncSync(fd)
  } finally {
    closeSync(fd)
  }
}

export function syncDirectory(path: string): void {
  const fd = openSync(path, 'r')
  try {
    fsyncSync(fd)
  } finally {
    closeSync(fd)
  }
}

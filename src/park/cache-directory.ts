/**
 * The directory that a compressed file was unpacked into. A stamp in it names that file;
 * a directory without one was not made here, and is never changed.
 *
 *   DIR.unpacking   being made; it becomes DIR when it is complete
 *   DIR.replaced    the old DIR, for the moment between two renames
 */
import { basename, dirname, join, resolve } from 'node:path'
import { PostcopyError } from '../errors.js'
import type { FileStamp } from '../sources/internal.js'
import { parseFields } from './fields.js'
import { TrustedDirectory, type TrustOptions } from './trusted-directory.js'

const STAMP_FILE = 'unpacked-from.json'
const FORMAT = 'postcopy-unpacked'
const FORMAT_VERSION = 1
const MOST_STAMP_BYTES = 64 * 1024
const UNPACKING = '.unpacking'
const REPLACED = '.replaced'
const INCOMPLETE = '.incomplete'

/** What was unpacked. */
export interface CacheStamp extends FileStamp {
  /** Where the saved VM begins in the file. */
  readonly offset: number
}

export class CacheDirectory {
  readonly path: string
  /** Where to unpack. */
  readonly unpacking: string
  readonly #parent: TrustedDirectory
  readonly #name: string

  /**
   * @throws PostcopyError `ERR_PARKED_UNTRUSTED`; the errno name if its parent cannot be opened
   */
  static open(path: string, options: TrustOptions): CacheDirectory {
    const whole = resolve(path)
    return new CacheDirectory(whole, TrustedDirectory.open(dirname(whole), options))
  }

  private constructor(path: string, parent: TrustedDirectory) {
    this.path = path
    this.unpacking = path + UNPACKING
    this.#parent = parent
    this.#name = basename(path)
  }

  /**
   * The stamp of the directory; undefined if it does not exist.
   *
   * @throws PostcopyError `ERR_CACHE_FOREIGN` if something else has its name
   */
  read(): CacheStamp | undefined {
    this.#stampOf(this.#name + REPLACED)
    return this.#stampOf(this.#name)
  }

  /** Puts what was unpacked in the place of the directory. */
  replace(stamp: CacheStamp): void {
    const fresh = this.#name + UNPACKING
    const old = this.#name + REPLACED
    const files = this.#parent.openDirectory(fresh)
    try {
      const whole = { format: FORMAT, formatVersion: FORMAT_VERSION, ...stamp }
      files.replaceFile(STAMP_FILE, Buffer.from(`${JSON.stringify(whole)}\n`))
      files.sync()
    } finally {
      files.close()
    }
    // Reads the stamps of what is replaced once more.
    const hadOne = this.read() !== undefined
    if (hadOne) {
      this.#parent.remove(old)
      this.#parent.rename(this.#name, old)
    }
    try {
      this.#parent.rename(fresh, this.#name)
    } catch (error) {
      if (hadOne) this.#parent.rename(old, this.#name)
      throw error
    }
    this.#parent.sync()
    this.#parent.remove(old)
  }

  /** Removes what was unpacked, after a failure. */
  discard(): void {
    this.#parent.remove(this.#name + UNPACKING)
    this.#parent.remove(this.#name + UNPACKING + INCOMPLETE)
  }

  close(): void {
    this.#parent.close()
  }

  #stampOf(name: string): CacheStamp | undefined {
    if (!this.#parent.has(name)) return undefined
    const path = join(this.#parent.path, name)
    try {
      const files = this.#parent.openDirectory(name)
      try {
        return decodeStamp(files)
      } finally {
        files.close()
      }
    } catch (error) {
      if (error instanceof PostcopyError && error.code === 'ERR_PARKED_UNTRUSTED') throw error
      throw foreign(path, error)
    }
  }
}

function decodeStamp(files: TrustedDirectory): CacheStamp {
  const path = join(files.path, STAMP_FILE)
  const checkLength = (lengthBytes: number): void => {
    if (lengthBytes > MOST_STAMP_BYTES) throw new PostcopyError(CODE, `${path} is too long`)
  }
  const text = files.readFile(STAMP_FILE, checkLength).toString('utf8')
  const fields = parseFields(text, path, CODE)
  fields.oneOf('format', [FORMAT])
  if (fields.count('formatVersion') !== FORMAT_VERSION) fields.refuse('formatVersion', '1')
  return {
    offset: fields.count('offset'),
    fileBytes: fields.count('fileBytes'),
    modifiedNs: fields.text('modifiedNs'),
    samples: fields.objects('samples').map((sample) => ({
      offset: sample.count('offset'),
      sha256: sample.text('sha256'),
    })),
  }
}

const CODE = 'ERR_CACHE_FOREIGN'

function foreign(path: string, cause: unknown): PostcopyError {
  const text =
    `${path} exists, but was not made by unpacking a file, and is not replaced: give another ` +
    'directory with --cache, or remove it'
  return new PostcopyError(CODE, text, { cause })
}

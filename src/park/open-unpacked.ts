/** Opens a saved VM that cannot be read in place: it is unpacked into a directory, once. */
import { PostcopyError } from '../errors.js'
import { checkOptionNames, type Counters } from '../migration/index.js'
import { SavedFileError } from '../sources/index.js'
import { FileBytes, stampFits, stampOf, streamPlace } from '../sources/internal.js'
import { statUserFile } from '../user-files.js'
import { CacheDirectory, type CacheStamp } from './cache-directory.js'
import { Park } from './park.js'
import { ParkedVm, type ParkedVmOptions } from './parked-vm.js'

export interface UnpackOptions extends ParkedVmOptions {
  /** Where the saved VM begins in the file, in bytes; default 0. */
  offset?: number
  /** The directory; default `FILE.parked`. A pipe and standard input need it. */
  cache?: string
  /** Abort ends the unpacking; nothing is left of it. */
  signal?: AbortSignal
  /** Called when the unpacking begins, with counters that are updated while it runs. */
  onUnpack?: (counters: Readonly<Counters>) => void
}

export interface UnpackedVm {
  readonly vm: ParkedVm
  /** False if the directory was there, and made from this file. */
  readonly wasUnpacked: boolean
}

/** The directory that {@link openUnpacked} uses by default. */
export function defaultCache(file: string, offset = 0): string {
  return `${streamPlace(file, { offset })}.parked`
}

/**
 * Opens a compressed stream, or libvirt's compressed image, from the directory that it was unpacked
 * into. If there is none, or it was made from another file, the file is unpacked first; the old
 * directory is replaced when the new one is complete. `-` and pipes are unpacked each time, and the
 * directory must not exist.
 *
 * @throws PostcopyError `ERR_CACHE_FOREIGN` if the directory was not made by this function;
 *   `ERR_PARKED_EXISTS` if another process is making it; SavedFileError `ERR_SAVED_UNPACK`,
 *   `ERR_SAVED_CHANGED`; the reason of `signal`; as {@link ParkedVm.open}
 */
export async function openUnpacked(file: string, options: UnpackOptions = {}): Promise<UnpackedVm> {
  checkOptionNames(options, OPTION_NAMES)
  const { offset = 0, cache, signal, onUnpack, ...opening } = options
  const { allowForeignDirectory = false } = opening
  const run = { file, offset, allowForeignDirectory, signal, onUnpack }
  if (!isFile(file)) {
    if (cache === undefined) throw needsCache(file)
    if (!(await unpack(cache, run))) {
      const text = `the stream ended too early: it is not complete. ${cache}.incomplete may be removed`
      throw new PostcopyError('ERR_PARKED_INCOMPLETE', text)
    }
    return { vm: ParkedVm.open(cache, opening), wasUnpacked: true }
  }
  try {
    return await openCached(cache ?? defaultCache(file, offset), run, opening)
  } catch (error) {
    throw cache === undefined ? advised(error) : error
  }
}

/**
 * The default directory of a compressed file.
 *
 * @returns undefined if there is none; `fits`: it was made from this file
 */
export async function findCache(
  file: string,
  offset = 0,
): Promise<{ readonly directory: string; readonly fits: boolean } | undefined> {
  const path = defaultCache(file, offset)
  try {
    const directory = CacheDirectory.open(path, {})
    try {
      const stamp = directory.read()
      if (stamp === undefined) return undefined
      return { directory: path, fits: await fits(stamp, { file, offset }) }
    } finally {
      directory.close()
    }
  } catch (error) {
    if (error instanceof PostcopyError) return undefined
    throw error
  }
}

const OPTION_NAMES = [
  'offset',
  'cache',
  'signal',
  'onUnpack',
  'verify',
  'pageSizes',
  'forRecovery',
  'allowForeignDirectory',
]

async function openCached(cache: string, run: Run, options: ParkedVmOptions): Promise<UnpackedVm> {
  const stamp = await stampFile(run.file, run.offset)
  const directory = CacheDirectory.open(cache, run)
  try {
    const known = directory.read()
    if (known !== undefined && (await fits(known, run))) {
      const vm = openUndamaged(cache, options)
      if (vm !== undefined) return { vm, wasUnpacked: false }
    }
    await unpackInto(directory, stamp, run)
  } finally {
    directory.close()
  }
  return { vm: ParkedVm.open(cache, options), wasUnpacked: true }
}

/** A file that is unpacked. */
interface Run {
  readonly file: string
  readonly offset: number
  readonly allowForeignDirectory: boolean
  readonly signal: AbortSignal | undefined
  readonly onUnpack: UnpackOptions['onUnpack']
}

function isFile(file: string): boolean {
  const stat = file === '-' ? undefined : statUserFile(file)
  return file !== '-' && (stat === undefined || stat.isFile() || stat.isBlockDevice())
}

function needsCache(file: string): PostcopyError {
  const name = file === '-' ? 'standard input' : file
  const text = `${name} can be read only once: name a directory for the VM with --cache DIR`
  return new PostcopyError('ERR_USAGE', text)
}

async function stampFile(path: string, offset: number): Promise<CacheStamp> {
  const file = FileBytes.open(path)
  try {
    return { offset, ...(await stampOf(file)) }
  } finally {
    file.close()
  }
}

async function fits(
  stamp: CacheStamp,
  { file: path, offset }: Pick<Run, 'file' | 'offset'>,
): Promise<boolean> {
  const file = FileBytes.open(path)
  try {
    return stamp.offset === offset && (await stampFits(stamp, file))
  } finally {
    file.close()
  }
}

/** The folder of the file may belong to another user, as that of libvirt's images does. */
const UNUSABLE = ['EACCES', 'EROFS', 'ERR_PARKED_UNTRUSTED']

/** Adds to the error of the default directory that there may be another one. */
function advised(error: unknown): unknown {
  if (!(error instanceof PostcopyError) || !UNUSABLE.includes(error.code)) return error
  const text = `${error.message}. --cache DIR unpacks the VM elsewhere`
  return new PostcopyError(error.code, text, { cause: error })
}

/** @returns undefined if it must be unpacked again */
function openUndamaged(directory: string, options: ParkedVmOptions): ParkedVm | undefined {
  try {
    return ParkedVm.open(directory, options)
  } catch (error) {
    const code = error instanceof PostcopyError ? error.code : ''
    if (code === 'ERR_PARKED_DAMAGED' || code === 'ERR_PARKED_FORMAT') return undefined
    throw error
  }
}

async function unpackInto(directory: CacheDirectory, stamp: CacheStamp, run: Run): Promise<void> {
  const { file: path } = run
  const isWhole = await unpack(directory.unpacking, run)
  try {
    if (!isWhole) {
      const text = 'what it unpacks to ends too early: the file is not complete'
      throw new SavedFileError('truncated', { path }, text)
    }
    if (!(await fits(stamp, run))) {
      const text = 'it has changed while it was unpacked: try again when nothing writes it'
      throw new SavedFileError('changed', { path }, text)
    }
    directory.replace(stamp)
  } catch (error) {
    directory.discard()
    throw error
  }
}

/**
 * Unpacks into a directory that must not exist. After a failure it does not exist either.
 *
 * @returns false if it was a postcopy that broke off, which leaves `DIR.incomplete`
 */
async function unpack(directory: string, run: Run): Promise<boolean> {
  const { file, offset, allowForeignDirectory, signal, onUnpack } = run
  signal?.throwIfAborted()
  const where = offset === 0 ? {} : { offset }
  const park = Park.fromFile({ file, ...where, directory, allowForeignDirectory })
  const stop = (): void => park.stop()
  signal?.addEventListener('abort', stop, { once: true })
  try {
    onUnpack?.(park.counters)
    return await ended(park)
  } catch (error) {
    signal?.throwIfAborted()
    throw error
  } finally {
    signal?.removeEventListener('abort', stop)
    await park.close()
  }
}

/** Whether the whole VM is in the directory. @throws the error of the park */
async function ended(park: Park): Promise<boolean> {
  const paused = new Promise<false>((resolve) => {
    park.on('state', (state) => {
      if (state === 'postcopy-paused') resolve(false)
    })
  })
  return Promise.race([park.done.then(() => true), paused])
}

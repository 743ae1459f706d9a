/**
 * The pages that a parked VM needs first: those that its clones have requested, in that order. The
 * file is kept beside the VM, or elsewhere. Losing it costs only time.
 */
import { basename, dirname, resolve } from 'node:path'
import { PostcopyError } from '../errors.js'
import { PageOrder } from '../ram/index.js'
import { TrustedDirectory, type TrustOptions } from './trusted-directory.js'
import {
  MOST_FILE_BYTES,
  type VmRecord,
  decodeWorkingSet,
  encodeWorkingSet,
  identityOf,
} from './working-set-file.js'

/** What a working set needs of its VM. */
export interface WorkingSetOwner {
  /** The directory or file of the VM, for messages. */
  readonly path: string
  /** Where the working set is kept by default. */
  readonly workingSetFile: string
  /** Identifies the VM. */
  readonly record: VmRecord
}

export interface WorkingSetOptions extends TrustOptions {
  /** The path of its file; default: `working-set` in the directory of the parked VM. */
  file?: string
  /**
   * Called with the reason if the file cannot be used. The file then counts as empty and is
   * replaced by {@link WorkingSet.save}. Default: {@link WorkingSet.open} throws the reason.
   */
  onUnusable?: (error: PostcopyError) => void
}

/**
 * The working set of a parked VM, for any number of clones, concurrently or one after the other:
 *
 * ```ts
 * const workingSet = WorkingSet.open(vm)
 * const clone = resume(vm, { uri, workingSet })
 * await clone.done
 * workingSet.save()
 * ```
 */
export class WorkingSet {
  readonly file: string
  readonly #vm: WorkingSetOwner
  readonly #trust: TrustOptions
  readonly #replaces: boolean
  /** The pages in the file when it was opened. */
  readonly #known: PageOrder
  /** For each clone: the known pages, then the other pages that it has requested. */
  readonly #clones: PageOrder[] = []

  /**
   * Reads the file; a missing file counts as empty.
   *
   * @throws PostcopyError `ERR_WORKING_SET_FORMAT`, `ERR_WORKING_SET_VERSION`,
   *   `ERR_WORKING_SET_FOREIGN`; `ERR_PARKED_UNTRUSTED` if other users may have written it; the
   *   errno name if the file cannot be read
   */
  static open(vm: WorkingSetOwner, options: WorkingSetOptions = {}): WorkingSet {
    const file = resolve(options.file ?? vm.workingSetFile)
    try {
      const known = readWorkingSet(file, vm, options)
      return new WorkingSet(vm, file, options, known, false)
    } catch (error) {
      if (!(error instanceof PostcopyError) || options.onUnusable === undefined) throw error
      options.onUnusable(error)
      return new WorkingSet(vm, file, options, undefined, true)
    }
  }

  private constructor(
    vm: WorkingSetOwner,
    file: string,
    trust: TrustOptions,
    known: PageOrder | undefined,
    replaces: boolean,
  ) {
    this.#vm = vm
    this.file = file
    this.#trust = trust
    this.#replaces = replaces
    this.#known = known ?? new PageOrder(vm.record.blocks)
  }

  /** Number of target pages that a clone receives before it requests them. */
  get pageCount(): number {
    return this.#known.pageCount
  }

  /**
   * Returns the page order of one more clone: the pages to push first. Its requests are added to
   * it. {@link resume} calls this.
   *
   * @throws PostcopyError `ERR_WORKING_SET_FOREIGN` for a clone of another VM
   */
  begin(vm: WorkingSetOwner): PageOrder {
    if (identityOf(vm.record) !== identityOf(this.#vm.record)) {
      throw new PostcopyError(
        'ERR_WORKING_SET_FOREIGN',
        `the working set is of ${this.#vm.path}, not of ${vm.path}`,
      )
    }
    const order = new PageOrder(vm.record.blocks)
    order.addAll(this.#known)
    this.#clones.push(order)
    return order
  }

  /**
   * Adds the pages requested until now to the file; may be called at any time. The file is replaced
   * atomically, and keeps what other processes have added before. If two save at the same moment,
   * the additions of one are lost, and have to be learned again.
   *
   * @returns number of target pages added; 0: the file is unchanged
   * @throws PostcopyError with the errno name if the file cannot be written, and as {@link open} if
   *   the file was replaced with an unusable one
   */
  save(): number {
    const there = this.#read() ?? new PageOrder(this.#vm.record.blocks)
    const before = there.pageCount
    for (const order of this.#clones) there.addAll(order)
    const added = there.pageCount - before
    if (added > 0) {
      replaceFile(this.file, encodeWorkingSet(there, this.#vm.record), this.#trust)
    }
    return added
  }

  #read(): PageOrder | undefined {
    try {
      return readWorkingSet(this.file, this.#vm, this.#trust)
    } catch (error) {
      if (this.#replaces) return undefined
      throw error
    }
  }
}

/** @returns undefined if there is no file */
export function readWorkingSet(
  file: string,
  vm: WorkingSetOwner,
  trust: TrustOptions,
): PageOrder | undefined {
  const text = inFolderOf(file, trust, 'kept', (folder, name) => {
    if (!folder.has(name)) return undefined
    const bytes = folder.readFile(name, (lengthBytes) => {
      if (lengthBytes <= MOST_FILE_BYTES) return
      const text = `${file} is larger than ${MOST_FILE_BYTES} bytes, and therefore not a working set`
      throw new PostcopyError('ERR_WORKING_SET_FORMAT', text)
    })
    return bytes.toString('utf8')
  })
  return text === undefined ? undefined : decodeWorkingSet(text, file, vm.record)
}

/** Replaces the file atomically: a reader finds the old one or the new one, also after a crash. */
function replaceFile(file: string, bytes: Uint8Array, trust: TrustOptions): void {
  inFolderOf(file, trust, 'written', (folder, name) => {
    folder.replaceFile(name, bytes)
    folder.sync()
  })
}

function inFolderOf<T>(
  file: string,
  trust: TrustOptions,
  how: string,
  act: (folder: TrustedDirectory, name: string) => T,
): T {
  let folder: TrustedDirectory
  try {
    folder = TrustedDirectory.open(dirname(file), trust)
  } catch (error) {
    if (!(error instanceof PostcopyError) || error.code === 'ERR_PARKED_UNTRUSTED') throw error
    const why = error.code === 'ENOENT' ? 'no such directory' : error.message
    throw new PostcopyError(error.code, `${file} cannot be ${how}: ${why}`, { cause: error })
  }
  try {
    return act(folder, basename(file))
  } finally {
    folder.close()
  }
}

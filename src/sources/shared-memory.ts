/**
 * The RAM blocks that x-ignore-shared has left out of a file. Each has a file of its own, that of
 * its memory backend, whose holes are zero pages.
 */
import { PostcopyError } from '../errors.js'
import type { PageBitmap } from '../ram/index.js'
import { formatByteSize } from '../units.js'
import { type HeadBlock, SHARED_ADVICE } from './block-list.js'
import { FileBytes } from './file-bytes.js'
import { SavedFileError } from './saved-error.js'
import { dataOf } from './sparse-file.js'

export class SharedMemory {
  readonly #files = new Map<string, FileBytes>()

  /**
   * Opens the files of all blocks that need one.
   *
   * @param path - of the saved file, for errors
   * @param given - the path of a block's file, by the name of the block
   * @throws SavedFileError for a block without a file; PostcopyError `ERR_INVALID_BLOCK` for a file
   *   without a block, or one that is too short; `ERR_FILE_KIND`; the errno name
   */
  open(path: string, blocks: readonly HeadBlock[], given: ReadonlyMap<string, string>): void {
    const shared = blocks.filter(({ sharedAt }) => sharedAt !== undefined)
    for (const name of given.keys()) {
      if (shared.some((block) => block.name === name)) continue
      const isThere = blocks.some((block) => block.name === name)
      const what = isThere ? `has the RAM block "${name}" itself` : `has no RAM block "${name}"`
      throw invalid(`${path} ${what}: it needs no file for it`)
    }
    for (const { name, lengthBytes, sharedAt: offset = 0 } of shared) {
      const file = given.get(name)
      if (file === undefined) {
        const text = `RAM block "${name}" is not in the file: ${SHARED_ADVICE}. Or give that file with --memory ${name}=FILE`
        throw new SavedFileError('refused', { path, offset }, text)
      }
      this.#open(name, lengthBytes, file)
    }
  }

  #open(name: string, lengthBytes: number, path: string): void {
    const file = FileBytes.open(path)
    this.#files.set(name, file)
    if (file.isBlockDevice) {
      throw new PostcopyError('ERR_FILE_KIND', `${path} is not a regular file`)
    }
    if (file.endOffset >= lengthBytes) return
    const [has, needs] = [file.endOffset, lengthBytes].map(formatByteSize)
    throw invalid(`${path} has ${has}, RAM block "${name}" has ${needs}`)
  }

  get fds(): readonly number[] {
    return [...this.#files.values()].map(({ fd }) => fd)
  }

  /** Where a block is: the index of its file in {@link fds}, and the pages that are no holes. */
  find(name: string, lengthBytes: number): { file: number; data: PageBitmap } | undefined {
    const file = this.#files.get(name)
    if (file === undefined) return undefined
    return { file: [...this.#files.keys()].indexOf(name), data: dataOf(file.fd, lengthBytes) }
  }

  get hasChanged(): boolean {
    return [...this.#files.values()].some(({ hasChanged }) => hasChanged)
  }

  close(): void {
    for (const file of this.#files.values()) file.close()
  }
}

function invalid(text: string): PostcopyError {
  return new PostcopyError('ERR_INVALID_BLOCK', text)
}

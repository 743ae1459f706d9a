/** What a park reads from a file: a stream as it is, or a saved VM of another format as a stream. */
import { PostcopyError } from '../errors.js'
import { type LibvirtImage, savedStream } from '../sources/index.js'
import { findLibvirt } from '../sources/internal.js'
import { type InputFile, statUserFile } from '../user-files.js'
import type { ParkFile } from './protocol.js'
import { type TakeBytes, openStream, readPieces, readStream } from './read-stream.js'

export type ParkInput = InputFile | AsyncIterable<Uint8Array>

/**
 * @throws PostcopyError with the errno name if the file cannot be read; SavedFileError; `ERR_USAGE`
 *   for an offset or snapshot of a pipe
 */
export async function openInput(
  { file, ...where }: ParkFile,
  signal: AbortSignal,
): Promise<ParkInput> {
  const stat = file === '-' ? undefined : statUserFile(file)
  if (stat?.isFile() === true || stat?.isBlockDevice() === true) {
    return (await savedStream(file, where, signal)) ?? openStream(file)
  }
  const [option] = Object.keys(where)
  if (option !== undefined) {
    throw new PostcopyError('ERR_USAGE', `${file}: --${option} needs a file, not a pipe`)
  }
  return openStream(file)
}

/** The header of libvirt's image; undefined for another file. */
export async function readDomain({ file, offset }: ParkFile): Promise<LibvirtImage | undefined> {
  const stat = file === '-' ? undefined : statUserFile(file)
  if (stat?.isFile() !== true && stat?.isBlockDevice() !== true) return undefined
  return findLibvirt(file, offset)
}

/** Reads to the end, or while `take` wants more; returns how many bytes were not taken. */
export async function readInput(
  input: ParkInput,
  take: TakeBytes,
  signal: AbortSignal,
): Promise<number> {
  return 'fd' in input ? readStream(input, take, signal) : readPieces(input, take)
}

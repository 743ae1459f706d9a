/** Any saved file as a plain stream, for a reader that takes it once from begin to end. */
import { Cursor } from './cursor.js'
import { streamOf } from './as-stream.js'
import { FileBytes } from './file-bytes.js'
import { type LibvirtImage, readLibvirtImage } from './libvirt.js'
import { type SavedImage, type SavedOptions, checkSnapshotOption, openSaved } from './open-saved.js'
import { type Compression, compressions, recognizeBytes } from './recognize.js'
import { SavedFileError } from './saved-error.js'
import { unpacked } from './unpack.js'

/** Where the compressed bytes of a file begin. */
export interface Packed {
  readonly compression: Compression
  readonly offset: number
  /** Undefined without libvirt's header. */
  readonly libvirt?: LibvirtImage
}

/** @returns undefined if the file is not compressed @throws as {@link openSaved} */
export async function findPacked(path: string, offset = 0): Promise<Packed | undefined> {
  const file = FileBytes.open(path)
  try {
    const format = await recognizeBytes(file, offset)
    if (isCompression(format)) return { compression: format, offset }
    if (format !== 'libvirt') return undefined
    const image = await readLibvirtImage(new Cursor(file, offset))
    if (!isCompression(image.format)) return undefined
    return { compression: image.format, offset: image.payloadOffset, libvirt: image }
  } finally {
    file.close()
  }
}

/** The header of libvirt's image; undefined for another file. @throws as {@link openSaved} */
export async function findLibvirt(path: string, offset = 0): Promise<LibvirtImage | undefined> {
  const file = FileBytes.open(path)
  try {
    if ((await recognizeBytes(file, offset)) !== 'libvirt') return undefined
    return await readLibvirtImage(new Cursor(file, offset))
  } finally {
    file.close()
  }
}

function isCompression(format: string): format is Compression {
  return compressions.some((compression) => compression === format)
}

/**
 * Opens a saved VM to read it once. A stream that needs no change is not read twice: it is left to
 * the caller.
 *
 * @param signal - abort ends the program that unpacks the file
 * @returns undefined for a stream from the first byte of a file, or what is no saved VM at all
 * @throws SavedFileError as {@link openSaved}
 */
export async function savedStream(
  path: string,
  options: Omit<SavedOptions, 'index'> = {},
  signal?: AbortSignal,
): Promise<AsyncIterable<Uint8Array> | undefined> {
  const { offset = 0 } = options
  const packed = await findPacked(path, offset)
  if (packed !== undefined) {
    checkSnapshotOption(path, packed.compression, options.snapshot)
    checkMemoryOption(path, options.memory)
    return unpacked(path, packed.offset, packed.compression, signal)
  }
  const format = await formatOf(path, offset)
  const isPlain = offset === 0 && options.snapshot === undefined
  if (isPlain && UNREAD.includes(format)) return undefined
  let image: SavedImage
  try {
    image = await openSaved(path, { ...options, index: false })
  } catch (error) {
    // The caller's decoder takes streams of postcopy, too, and has errors of its own.
    if (isPlain && format === 'stream' && error instanceof SavedFileError) return undefined
    throw error
  }
  if (image.earlySections.length === 0 && !image.isPlainStream) return closing(image)
  image.close()
  if (image.earlySections.length === 0) return undefined
  // A directory has no place for them.
  const text =
    'it has devices that are loaded before RAM, such as virtio-mem, which a parked VM cannot have: ' +
    'resume the file itself'
  throw new SavedFileError('refused', { path }, text)
}

function checkMemoryOption(path: string, memory: SavedOptions['memory']): void {
  if (memory === undefined) return
  const text = 'only a mapped-ram file takes the memory of blocks from other files, not this one'
  throw new SavedFileError('refused', { path }, text)
}

const UNREAD = ['unknown', 'zeros', 'empty']

async function formatOf(path: string, offset: number): Promise<string> {
  const file = FileBytes.open(path)
  try {
    return await recognizeBytes(file, offset)
  } finally {
    file.close()
  }
}

async function* closing(image: SavedImage): AsyncGenerator<Uint8Array> {
  try {
    yield* streamOf(image)
  } finally {
    image.close()
  }
}

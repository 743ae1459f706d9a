/** Recognizes a saved VM by its content. */
import { statUserFile } from '../user-files.js'
import { type ByteSource, FileBytes } from './file-bytes.js'
import { Cursor } from './cursor.js'
import { LIBVIRT_MAGIC, LIBVIRT_PARTIAL_MAGIC } from './libvirt.js'
import { PostcopyError } from '../errors.js'
import { isMappedRam, readIdentity } from './stream-head.js'
import { SavedFileError } from './saved-error.js'

/** Programs that unpack a compressed stream. */
export const compressions = ['gzip', 'zstd', 'xz', 'bzip2', 'lzop'] as const
export type Compression = (typeof compressions)[number]

export type SavedFormat =
  | 'parked-directory'
  | 'stream'
  | 'mapped-ram'
  | 'libvirt'
  | 'libvirt-partial'
  | 'qcow2'
  | Compression
  | 'elf-core'
  | 'zeros'
  | 'empty'
  | 'unknown'

/** More than the longest magic number; so much of a file must be zero to be called zeros. */
const HEAD_BYTES = 4096

const MAGIC_NUMBERS: readonly (readonly [magic: Buffer, format: SavedFormat])[] = [
  [Buffer.from('QEVM'), 'stream'],
  [Buffer.from(LIBVIRT_MAGIC), 'libvirt'],
  [Buffer.from(LIBVIRT_PARTIAL_MAGIC), 'libvirt-partial'],
  [Buffer.from('QFI\xfb', 'latin1'), 'qcow2'],
  [Buffer.from([0x1f, 0x8b]), 'gzip'],
  [Buffer.from([0x28, 0xb5, 0x2f, 0xfd]), 'zstd'],
  [Buffer.from('\xfd7zXZ\0', 'latin1'), 'xz'],
  [Buffer.from('BZh'), 'bzip2'],
  [Buffer.from('\x89LZO\0\r\n\x1a\n', 'latin1'), 'lzop'],
  [Buffer.from('\x7fELF', 'latin1'), 'elf-core'],
]

/**
 * Recognizes the format of a path from its first bytes.
 *
 * @param offset - where the saved VM begins in the file or block device
 * @throws PostcopyError with the errno name if it cannot be opened
 */
export async function recognize(path: string, offset = 0): Promise<SavedFormat> {
  if (statUserFile(path)?.isDirectory() === true) return 'parked-directory'
  const file = FileBytes.open(path)
  try {
    return await recognizeBytes(file, offset)
  } finally {
    file.close()
  }
}

export async function recognizeBytes(source: ByteSource, offset: number): Promise<SavedFormat> {
  const head = Buffer.alloc(HEAD_BYTES)
  const bytes = head.subarray(0, await source.read(head, offset))
  if (bytes.length === 0) return 'empty'
  const found = MAGIC_NUMBERS.find(([magic]) => bytes.subarray(0, magic.length).equals(magic))
  if (found?.[1] === 'stream') return streamKind(source, offset)
  if (found !== undefined) return found[1]
  return bytes.every((byte) => byte === 0) ? 'zeros' : 'unknown'
}

/** A damaged configuration is reported by the reader of the stream. */
async function streamKind(source: ByteSource, offset: number): Promise<SavedFormat> {
  try {
    return isMappedRam(await readIdentity(new Cursor(source, offset))) ? 'mapped-ram' : 'stream'
  } catch (error) {
    if (error instanceof PostcopyError) return 'stream'
    throw error
  }
}

const NOT_SAVED: Partial<Record<SavedFormat, string>> = {
  'libvirt-partial':
    'libvirt has not finished this image: it is still being saved, or saving has failed. Save the domain ' +
    'again',
  'elf-core':
    'it is a core dump (virsh dump --memory-only), which has no device state and cannot be ' +
    'resumed. Save the VM with virsh save, or with migrate',
  zeros: 'it begins with zeros. If the VM was saved at an offset, give it with --offset BYTES',
  empty: 'there is nothing at this offset',
  unknown: 'it is not a saved VM of any kind that is known',
}

/** The error for a format that nothing can be read from. */
export function notSaved(path: string, offset: number, format: SavedFormat): SavedFileError {
  const kind = format === 'empty' ? 'truncated' : 'format'
  return new SavedFileError(kind, { path, offset }, NOT_SAVED[format] ?? `it is a ${format} file`)
}

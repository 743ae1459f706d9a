/** Reports the contents of a compressed file, from the beginning of its unpacked data. */
import { PostcopyError } from '../errors.js'
import { Cursor } from './cursor.js'
import { type ByteSource, FileBytes } from './file-bytes.js'
import { type LibvirtSummary, summaryOf } from './libvirt.js'
import { type Compression, recognizeBytes } from './recognize.js'
import { SavedFileError } from './saved-error.js'
import { type Packed, findPacked } from './saved-stream.js'
import { readHead } from './stream-head.js'
import { unpacked } from './unpack.js'

/** More than the longest configuration, early sections and block list together. */
const MOST_HEAD_BYTES = 2 * 2 ** 20

export interface PackedReport {
  readonly compression: Compression
  /** Where the compressed bytes begin. */
  readonly offset: number
  /** From there to the end of the file. */
  readonly compressedBytes: number
  readonly libvirt: LibvirtSummary | undefined
  /** Undefined if its beginning cannot be read; then there is an error. */
  readonly head: PackedHead | undefined
  readonly error: PostcopyError | undefined
}

export interface PackedHead {
  readonly machineType: string
  readonly blocks: readonly { readonly name: string; readonly lengthBytes: number }[]
}

/**
 * Unpacks only the beginning of a compressed file, 2 MiB at most.
 *
 * @returns undefined if the file is not compressed
 * @throws as `openSaved`; an error of what is compressed is in the report
 */
export async function inspectPacked(path: string, offset = 0): Promise<PackedReport | undefined> {
  const packed = await findPacked(path, offset)
  if (packed === undefined) return undefined
  const { compression, libvirt } = packed
  return {
    compression,
    offset: packed.offset,
    compressedBytes: lengthOf(path) - packed.offset,
    libvirt: libvirt === undefined ? undefined : summaryOf(libvirt),
    ...(await tryHead(path, packed)),
  }
}

function lengthOf(path: string): number {
  const file = FileBytes.open(path)
  file.close()
  return file.endOffset
}

async function tryHead(
  path: string,
  packed: Packed,
): Promise<Pick<PackedReport, 'head' | 'error'>> {
  try {
    return { head: await readPackedHead(path, packed), error: undefined }
  } catch (error) {
    if (error instanceof PostcopyError) return { head: undefined, error }
    throw error
  }
}

async function readPackedHead(path: string, packed: Packed): Promise<PackedHead> {
  const source = await unpackHead(path, packed)
  const format = await recognizeBytes(source, 0)
  if (format !== 'stream') {
    const text = `it unpacks to a ${format} file: unpack it with ${packed.compression} -d first`
    throw new SavedFileError('refused', { path }, text)
  }
  const { machineType, blocks } = await readHead(new Cursor(source, 0))
  return { machineType, blocks: blocks.map(({ name, lengthBytes }) => ({ name, lengthBytes })) }
}

async function unpackHead(path: string, { offset, compression }: Packed): Promise<ByteSource> {
  const pieces: Uint8Array[] = []
  let lengthBytes = 0
  // The end of the loop ends the program, too.
  for await (const piece of unpacked(path, offset, compression)) {
    pieces.push(piece)
    lengthBytes += piece.length
    if (lengthBytes >= MOST_HEAD_BYTES) break
  }
  const bytes = Buffer.concat(pieces)
  return {
    path,
    endOffset: bytes.length,
    allocatedBytes: bytes.length,
    inside: ' of what it unpacks to',
    read: (target, from) => Promise.resolve(bytes.copy(target, 0, from)),
  }
}

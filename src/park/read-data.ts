/** Reads the data of a sparse file ahead of its use, without blocking the event loop. */
import { read } from 'node:fs'
import { promisify } from 'node:util'
import { PostcopyError } from '../errors.js'
import { fileExtents, pathOf } from '../kernel/index.js'
import { CHECKSUM_CHUNK_BYTES } from './checksum.js'
import { readError } from '../kernel/internal.js'

const readFile = promisify(read)

/** One chunk is read while another is used, and a third is being written elsewhere. */
const BUFFERS = 3

export interface DataChunk {
  /** In the file; a multiple of {@link CHECKSUM_CHUNK_BYTES}. */
  readonly offset: number
  /** Valid until the second chunk after this one is requested. */
  readonly bytes: Uint8Array
}

/**
 * Yields the chunks of {@link CHECKSUM_CHUNK_BYTES} that are not holes as a whole, ascending. The
 * descriptor may be closed when the generator has ended.
 *
 * @param lengthBytes - of the file
 * @throws KernelError `EIO`, …; PostcopyError `ERR_PARKED_DAMAGED` if the file is shorter
 */
export async function* readData(fd: number, lengthBytes: number): AsyncGenerator<DataChunk> {
  const buffers: Buffer[] = []
  let reading: Promise<DataChunk> | undefined
  let turn = 0
  try {
    for (const offset of chunksWithData(fd, lengthBytes)) {
      const buffer = (buffers[turn] ??= Buffer.allocUnsafeSlow(CHECKSUM_CHUNK_BYTES))
      turn = (turn + 1) % BUFFERS
      const next = readChunk(fd, buffer.subarray(0, lengthBytes - offset), offset)
      // Its error is thrown when the chunk is due.
      next.catch(() => undefined)
      const ready = reading
      reading = next
      if (ready !== undefined) yield await ready
    }
    if (reading !== undefined) yield await reading
  } finally {
    await reading?.catch(() => undefined)
  }
}

function* chunksWithData(fd: number, lengthBytes: number): Generator<number> {
  let at = 0
  for (const [start, end] of fileExtents(fd, 0, lengthBytes)) {
    at = Math.max(at, Math.floor(start / CHECKSUM_CHUNK_BYTES) * CHECKSUM_CHUNK_BYTES)
    for (; at < end; at += CHECKSUM_CHUNK_BYTES) yield at
  }
}

async function readChunk(fd: number, bytes: Buffer, offset: number): Promise<DataChunk> {
  for (let have = 0; have < bytes.length;) {
    const [left, at] = [bytes.length - have, offset + have]
    const { bytesRead } = await readFile(fd, bytes, have, left, at).catch((error: unknown) => {
      throw readError(error, fd, at, left)
    })
    if (bytesRead === 0) {
      const text = `${pathOf(fd)} ends at offset ${at}: it was truncated while it was read`
      throw new PostcopyError('ERR_PARKED_DAMAGED', text)
    }
    have += bytesRead
  }
  return { offset, bytes }
}

/** Checksums of files on disk. They detect damage, not an attacker's changes. */
import { createHash } from 'node:crypto'
import { crc32 } from 'node:zlib'
import { isZero } from '../kernel/index.js'
import { readAt } from './read-at.js'

/** Bytes of a chunk; the last one of a block may be shorter. */
export const CHECKSUM_CHUNK_BYTES = 1024 * 1024

export function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex')
}

/**
 * CRC-32 over the chunks of 1 MiB that are not all zeros, each preceded by its index (u32, little
 * endian).
 */
export class BlockChecksum {
  readonly #number = new Uint32Array(1)
  readonly #numberBytes = new Uint8Array(this.#number.buffer)
  #sum = 0

  /** @param index - of the chunk, ascending; chunks of zeros may be left out */
  add(index: number, chunk: Uint8Array): void {
    if (isZero(chunk)) return
    this.#number[0] = index
    this.#sum = crc32(chunk, crc32(this.#numberBytes, this.#sum))
  }

  /** @returns 8 hex digits */
  digest(): string {
    return this.#sum.toString(16).padStart(8, '0')
  }
}

/**
 * The {@link BlockChecksum} of a file. Known holes are not read.
 *
 * @param nextData - returns the next offset, from the given one on, at which a byte may not be
 *   zero; `lengthBytes` if there is none
 * @returns 8 hex digits
 */
export function checksumBlock(
  fd: number,
  lengthBytes: number,
  nextData: (offset: number) => number = (offset) => offset,
): string {
  const buffer = new Uint8Array(CHECKSUM_CHUNK_BYTES)
  const checksum = new BlockChecksum()
  for (let from = nextData(0); from < lengthBytes;) {
    const index = Math.floor(from / CHECKSUM_CHUNK_BYTES)
    const start = index * CHECKSUM_CHUNK_BYTES
    const end = Math.min(start + CHECKSUM_CHUNK_BYTES, lengthBytes)
    from = nextData(end)
    const chunk = buffer.subarray(0, end - start)
    // The missing part of a shorter file counts as zeros: the length is checked elsewhere.
    chunk.fill(0, readAt(fd, chunk, start))
    checksum.add(index, chunk)
  }
  return checksum.digest()
}

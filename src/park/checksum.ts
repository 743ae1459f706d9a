/** Checksums of files on disk. They detect damage, not an attacker's changes. */
import { createHash } from 'node:crypto'
import { crc32 } from 'node:zlib'
import { isZero } from '../kernel/index.js'
import { checksumPages } from '../kernel/internal.js'
import { CHUNK_VALUE_BYTES, ChunkDigest } from './page-checksums.js'
import { readAt } from './read-at.js'

/** Bytes of a chunk; the last one of a block may be shorter. */
export const CHECKSUM_CHUNK_BYTES = 1024 * 1024

export function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex')
}

/**
 * How the RAM blocks of a parked VM are checksummed:
 *
 * - `crc32`: CRC-32 over the chunks of 1 MiB that are not all zeros, each preceded by its index (u32,
 *   little endian). An earlier version used it.
 * - `crc32c-pages`: the same with CRC-32C, over the values of the chunk's pages (u32, little endian)
 *   instead of their bytes. The value of a page is the remainder of its CRC-32C, without the
 *   inversions at the start and the end. A chunk always has 256 values; those after the end of the
 *   block are 0.
 */
export const checksumAlgorithms = ['crc32', 'crc32c-pages'] as const
export type ChecksumAlgorithm = (typeof checksumAlgorithms)[number]

/** The checksum of a RAM block, from its bytes. */
export class BlockChecksum {
  readonly #digest: ByteDigest | PageDigest

  constructor(algorithm: ChecksumAlgorithm) {
    this.#digest = algorithm === 'crc32' ? new ByteDigest() : new PageDigest()
  }

  /** @param index - of the chunk, ascending; chunks of zeros may be left out */
  add(index: number, chunk: Uint8Array): void {
    if (!isZero(chunk)) this.#digest.add(index, chunk)
  }

  /** @returns 8 hex digits */
  digest(): string {
    return this.#digest.text
  }
}

/** The {@link BlockChecksum} of a file. */
export function checksumBlock(
  fd: number,
  lengthBytes: number,
  algorithm: ChecksumAlgorithm,
): string {
  const checksum = new BlockChecksum(algorithm)
  const buffer = new Uint8Array(CHECKSUM_CHUNK_BYTES)
  for (let index = 0; index * CHECKSUM_CHUNK_BYTES < lengthBytes; index += 1) {
    const start = index * CHECKSUM_CHUNK_BYTES
    const chunk = buffer.subarray(0, Math.min(CHECKSUM_CHUNK_BYTES, lengthBytes - start))
    // The missing part of a shorter file counts as zeros: the length is checked elsewhere.
    chunk.fill(0, readAt(fd, chunk, start))
    checksum.add(index, chunk)
  }
  return checksum.digest()
}

class ByteDigest {
  readonly #index = new Uint32Array(1)
  readonly #indexBytes = new Uint8Array(this.#index.buffer)
  #sum = 0

  add(index: number, chunk: Uint8Array): void {
    this.#index[0] = index
    this.#sum = crc32(chunk, crc32(this.#indexBytes, this.#sum))
  }

  get text(): string {
    return this.#sum.toString(16).padStart(8, '0')
  }
}

class PageDigest {
  readonly #digest = new ChunkDigest()
  readonly #values = new Uint8Array(CHUNK_VALUE_BYTES)

  add(index: number, chunk: Uint8Array): void {
    this.#values.fill(0)
    checksumPages(chunk, this.#values)
    this.#digest.add(index, this.#values)
  }

  get text(): string {
    return this.#digest.text
  }
}

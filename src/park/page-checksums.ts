/**
 * The checksum of a RAM block, kept up to date while pages arrive in any order, any number of times:
 * each page has a value of its own (`kernel/checksums.ts`), and the checksum is computed from the
 * values at the end.
 */
import { isZero } from '../kernel/index.js'
import { checksumPages, checksumRecords, crc32c, PAGE_VALUE_BYTES } from '../kernel/internal.js'
import { RAM_ZERO_RECORD_BYTES, RamFlag } from '../stream/index.js'
import { TARGET_PAGE_SIZE } from '../units.js'

/** The pages of 1 MiB. */
const CHUNK_PAGES = 256
export const CHUNK_VALUE_BYTES = CHUNK_PAGES * PAGE_VALUE_BYTES

/** Byte 7 of a record is the lowest of its offset and flags. */
const FLAGS_AT = 7

/** CRC-32C over the values of those chunks of 1 MiB that have a page which is not zero. */
export class ChunkDigest {
  readonly #index = new Uint32Array(1)
  #sum = 0

  /**
   * Call in ascending order.
   *
   * @param values - of the pages of the chunk
   */
  add(chunk: number, values: Uint8Array): void {
    if (isZero(values)) return
    this.#index[0] = chunk
    this.#sum = crc32c(crc32c(this.#sum, new Uint8Array(this.#index.buffer)), values)
  }

  /** 8 hex digits. */
  get text(): string {
    return this.#sum.toString(16).padStart(8, '0')
  }
}

export class PageChecksums {
  /** The values by chunk; a chunk that is not here is zero. */
  readonly #chunks = new Map<number, Uint8Array>()

  /** Takes the records that `storeRecords` has taken. */
  records(bytes: Uint8Array, start: number, end: number): void {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    for (let at = start; at < end;) {
      const chunk = chunkOf(view, at)
      const known = this.#chunks.get(chunk)
      if (known === undefined && ((bytes[at + FLAGS_AT] ?? 0) & RamFlag.zero) !== 0) {
        at += RAM_ZERO_RECORD_BYTES
        continue
      }
      at = checksumRecords(known ?? this.#create(chunk), chunk * CHUNK_PAGES, bytes, at, end)
    }
  }

  /** Sets the value of a page that is in memory. */
  page(index: number, bytes: Uint8Array): void {
    const chunk = Math.floor(index / CHUNK_PAGES)
    const values = this.#chunks.get(chunk) ?? this.#create(chunk)
    checksumPages(bytes, values.subarray((index % CHUNK_PAGES) * PAGE_VALUE_BYTES))
  }

  /** The pages `[from, to)` are holes. */
  clear(from: number, to: number): void {
    for (let page = from; page < to;) {
      const chunk = Math.floor(page / CHUNK_PAGES)
      const first = chunk * CHUNK_PAGES
      const end = Math.min(to, first + CHUNK_PAGES)
      this.#chunks
        .get(chunk)
        ?.fill(0, (page - first) * PAGE_VALUE_BYTES, (end - first) * PAGE_VALUE_BYTES)
      page = end
    }
  }

  get digest(): string {
    const digest = new ChunkDigest()
    for (const chunk of [...this.#chunks.keys()].sort((a, b) => a - b)) {
      const values = this.#chunks.get(chunk)
      if (values !== undefined) digest.add(chunk, values)
    }
    return digest.text
  }

  #create(chunk: number): Uint8Array {
    const values = new Uint8Array(CHUNK_VALUE_BYTES)
    this.#chunks.set(chunk, values)
    return values
  }
}

function chunkOf(view: DataView, at: number): number {
  const offset = view.getUint32(at) * 2 ** 32 + view.getUint32(at + 4)
  return Math.floor(offset / (CHUNK_PAGES * TARGET_PAGE_SIZE))
}

/**
 * The block list at the head of the `ram` START:
 *
 *   u64 total | MEM_SIZE   then, until the lengths add up:   str8 name   u64 used length   [u64 page size]
 *
 * No field tells whether an entry has a page size. A source with `postcopy-ram` writes it for
 * blocks whose page size is not that of its host. ADVISE lists the page sizes in use. If there are
 * others than the host's, a number that can be one of them is taken as the page size. This is
 * unambiguous: otherwise a name follows, whose length is not 0, or a record, which has flags.
 * Neither begins with a byte 0 and is a power of two without flags.
 */
import { TARGET_PAGE_SIZE, hex } from '../units.js'
import { INCOMPLETE } from './channel-decoder.js'
import { MIN_ANNOUNCED_PAGE_SIZE, RAM_FLAGS_MASK, RamFlag } from './constants.js'
import { refuse } from './errors.js'
import { Reader, u32At } from './reader.js'
import type { RamBlockInfo } from './types.js'

export interface BlockListOptions {
  /** Longer lists are rejected. */
  readonly maxRamBlocks: number
  /** The receiver's own page size of a block, in bytes; undefined for an unknown block. */
  readonly pageSizeOf?: ((name: string) => number | undefined) | undefined
  /** From ADVISE; undefined: the source has no `postcopy-ram`. */
  readonly pageSizeSummary: number | undefined
}

/** Decodes the list incrementally, entry by entry. */
export class BlockListDecoder {
  readonly blocks: RamBlockInfo[] = []
  readonly #options: BlockListOptions
  #remaining: number | undefined

  constructor(options: BlockListOptions) {
    this.#options = options
  }

  /** Whether the lengths add up to the total. */
  get isComplete(): boolean {
    return this.#remaining === 0
  }

  /** Takes the head or one entry; returns the index after it, or INCOMPLETE. */
  step(bytes: Uint8Array, at: number, end: number, base: number): number {
    return this.#remaining === undefined
      ? this.#head(bytes, at, end, base)
      : this.#entry(bytes, at, end, base, this.#remaining)
  }

  #head(bytes: Uint8Array, at: number, end: number, base: number): number {
    if (end - at < 8) return INCOMPLETE
    const flags = u32At(bytes, at + 4) & RAM_FLAGS_MASK
    if (flags !== RamFlag.memSize) {
      const found = `flags ${hex(flags)}`
      refuse('blockList', `START of ram begins with ${found}, not the block list`, base + at)
    }
    const total = new Reader(bytes, base + at, at, end).u64() - RamFlag.memSize
    if (total === 0) refuse('blockList', 'the block list is empty', base + at)
    this.#remaining = total
    return at + 8
  }

  #entry(bytes: Uint8Array, at: number, end: number, base: number, remaining: number): number {
    const offset = base + at
    const nameLength = bytes[at] ?? 0
    const hasPageSizes = (this.#options.pageSizeSummary ?? 0) >= MIN_ANNOUNCED_PAGE_SIZE
    // The record that follows the list has at least 8 bytes, too: waiting for 8 bytes never blocks.
    if (end - at < 1 + nameLength + 8 + (hasPageSizes ? 8 : 0)) return INCOMPLETE
    if (nameLength === 0) refuse('blockList', 'a RAM block without a name', offset)

    const reader = new Reader(bytes, offset, at, end)
    const name = reader.str8()
    const usedLengthBytes = reader.u64()
    const what = `RAM block "${name}"`
    if (this.blocks.some((block) => block.name === name)) {
      refuse('blockList', `${what} is listed twice`, offset)
    }
    if (this.blocks.length >= this.#options.maxRamBlocks) {
      refuse('limit', `more than ${this.#options.maxRamBlocks} RAM blocks`, offset)
    }
    if (usedLengthBytes === 0 || usedLengthBytes % TARGET_PAGE_SIZE !== 0) {
      refuse('blockList', `${what}: ${hex(usedLengthBytes)} bytes are not whole pages`, offset)
    }
    if (usedLengthBytes > remaining) {
      const left = `only ${hex(remaining)} are left of the total`
      refuse('blockList', `${what}: ${hex(usedLengthBytes)} bytes, ${left}`, offset)
    }
    let next = at + reader.position
    let pageSizeBytes: number | undefined
    if (hasPageSizes) {
      pageSizeBytes = this.#pageSize(name, reader, offset)
      if (pageSizeBytes !== undefined) next += 8
    }
    const block = { name, usedLengthBytes }
    this.blocks.push(pageSizeBytes === undefined ? block : { ...block, pageSizeBytes })
    this.#remaining = remaining - usedLengthBytes
    return next
  }

  #pageSize(name: string, reader: Reader, offset: number): number | undefined {
    const summary = this.#options.pageSizeSummary ?? 0
    const high = reader.u32()
    const low = reader.u32()
    const found = high * 2 ** 32 + low
    const isAnnounced =
      found >= MIN_ANNOUNCED_PAGE_SIZE &&
      found <= summary &&
      (low === 0 ? isPowerOfTwo(high) : high === 0 && isPowerOfTwo(low)) &&
      Math.floor(summary / found) % 2 === 1
    const pageSize = isAnnounced ? found : lowestBit(summary)
    const expected = this.#options.pageSizeOf?.(name)
    if (expected !== undefined && expected !== pageSize) {
      const sizes = `pages of ${pageSize} bytes at the source, of ${expected} here`
      refuse('blockList', `RAM block "${name}" has ${sizes}`, offset)
    }
    return isAnnounced ? found : undefined
  }
}

function isPowerOfTwo(word: number): boolean {
  return (word & (word - 1)) === 0
}

/** The page size of the source's host: the size of blocks that announce none. */
function lowestBit(summary: number): number {
  let bit = 1
  while (summary % (bit * 2) === 0) bit *= 2
  return bit
}

/**
 * The records of the `ram` section, on one channel:
 *
 *   u64 offset | PAGE [| CONTINUE]   [str8 block]   4096 bytes
 *   u64 offset | ZERO [| CONTINUE]   [str8 block]   u8 0
 *   u64 EOS
 */
import { TARGET_PAGE_SIZE, hex } from '../units.js'
import { INCOMPLETE } from './channel-decoder.js'
import {
  RAM_FLAGS_MASK,
  RAM_PAGE_RECORD_BYTES,
  RAM_RECORD_HEAD_BYTES,
  RAM_ZERO_RECORD_BYTES,
  RamFlag,
} from './constants.js'
import { refuse } from './errors.js'
import type { RamHandler } from './handler.js'
import type { RamBlockTable } from './ram-block-table.js'
import { u32At } from './reader.js'
import type { RamBlockInfo } from './types.js'

const CONTINUED_PAGE = RamFlag.page | RamFlag.continue
const CONTINUED_ZERO = RamFlag.zero | RamFlag.continue

/** Flags that only occur with a capability, and the capability to turn off on the source. */
const CAPABILITY_FLAGS = [
  [RamFlag.xbzrle, 'XBZRLE', 'xbzrle'],
  [RamFlag.hook, 'HOOK', 'rdma-pin-all (an rdma: migration)'],
  [RamFlag.compressPage, 'COMPRESS_PAGE', 'compress'],
  [RamFlag.multifdFlush, 'MULTIFD_FLUSH', 'multifd'],
] as const

/** Decodes records; remembers the channel's last block. */
export class RamRecordDecoder {
  /** Whether the last record was EOS. */
  atEndOfSection = false

  readonly #handler: RamHandler
  readonly #table: RamBlockTable
  #last: RamBlockInfo | undefined

  constructor(handler: RamHandler, table: RamBlockTable) {
    this.#handler = handler
    this.#table = table
  }

  /**
   * Lets the handler take records in bulk, then decodes one record itself.
   *
   * @param base - offset in the channel of `bytes[0]`
   * @param channel - its `stopped` makes this return before the next record
   * @returns index after the consumed bytes, or INCOMPLETE if there are none
   */
  step(
    bytes: Uint8Array,
    start: number,
    end: number,
    base: number,
    channel: { readonly stopped: boolean },
  ): number {
    let at = start
    this.atEndOfSection = false
    if (this.#last !== undefined && this.#handler.ramRecords !== undefined) {
      if (isContinuedRecord(bytes, at, end)) {
        const taken = this.#handler.ramRecords(this.#last.name, bytes, at, end)
        if (!Number.isInteger(taken) || taken < 0 || taken > end - at) {
          throw new RangeError(`ramRecords took ${taken} of ${end - at} bytes`)
        }
        at += taken
        if (channel.stopped) return at
      }
    }
    const next = this.#record(bytes, at, end, base)
    if (next !== INCOMPLETE) return next
    return at > start ? at : INCOMPLETE
  }

  #record(bytes: Uint8Array, start: number, end: number, base: number): number {
    if (end - start < RAM_RECORD_HEAD_BYTES) return INCOMPLETE
    const high = u32At(bytes, start)
    const low = u32At(bytes, start + 4)
    const flags = low & RAM_FLAGS_MASK
    if (flags === RamFlag.endOfSection) {
      if (high !== 0 || low !== RamFlag.endOfSection) {
        refuse('ramFlags', `EOS with an offset`, base + start)
      }
      this.atEndOfSection = true
      this.#handler.ramEndOfSection?.()
      return start + RAM_RECORD_HEAD_BYTES
    }
    const kind = flags & ~RamFlag.continue
    if (kind !== RamFlag.page && kind !== RamFlag.zero) refuseFlags(flags, base + start)

    let at = start + RAM_RECORD_HEAD_BYTES
    const block = this.#block(bytes, at, end, flags, base + start)
    if (block === undefined) return INCOMPLETE
    if ((flags & RamFlag.continue) === 0) at += 1 + (bytes[at] ?? 0)

    const offset = high * 2 ** 32 + ((low & ~RAM_FLAGS_MASK) >>> 0)
    if (offset >= block.usedLengthBytes) {
      const used = hex(block.usedLengthBytes)
      const where = `block "${block.name}": offset ${hex(offset)}`
      refuse('range', `${where} is outside its ${used} bytes`, base + start)
    }
    return kind === RamFlag.page
      ? this.#page(bytes, at, end, block, offset)
      : this.#zero(bytes, at, end, block, offset, base + start)
  }

  #page(bytes: Uint8Array, at: number, end: number, block: RamBlockInfo, offset: number): number {
    if (end - at < TARGET_PAGE_SIZE) return INCOMPLETE
    this.#last = block
    this.#handler.ramPage?.(block.name, offset, bytes, at)
    return at + TARGET_PAGE_SIZE
  }

  #zero(
    bytes: Uint8Array,
    at: number,
    end: number,
    block: RamBlockInfo,
    offset: number,
    streamOffset: number,
  ): number {
    if (at >= end) return INCOMPLETE
    const fill = bytes[at] ?? 0
    if (fill !== 0) {
      const where = `block "${block.name}", offset ${hex(offset)}`
      refuse('fill', `${where}: a zero page filled with ${hex(fill)}`, streamOffset)
    }
    this.#last = block
    this.#handler.ramZero?.(block.name, offset)
    return at + 1
  }

  /** The record's block; undefined if its name is incomplete. */
  #block(
    bytes: Uint8Array,
    at: number,
    end: number,
    flags: number,
    streamOffset: number,
  ): RamBlockInfo | undefined {
    if ((flags & RamFlag.continue) !== 0) {
      return this.#last ?? refuse('block', 'CONTINUE before any named block', streamOffset)
    }
    const nameStart = at + 1
    const length = at < end ? (bytes[at] ?? 0) : Infinity
    if (nameStart + length > end) return undefined
    return this.#table.at(bytes, nameStart, nameStart + length, streamOffset)
  }
}

/** Whether the next record is complete and {@link RamHandler.ramRecords} may take it. */
function isContinuedRecord(bytes: Uint8Array, at: number, end: number): boolean {
  if (end - at < RAM_ZERO_RECORD_BYTES) return false
  const flags = u32At(bytes, at + 4) & RAM_FLAGS_MASK
  if (flags === CONTINUED_ZERO) return true
  return flags === CONTINUED_PAGE && end - at >= RAM_PAGE_RECORD_BYTES
}

function refuseFlags(flags: number, streamOffset: number): never {
  for (const [flag, name, capability] of CAPABILITY_FLAGS) {
    if ((flags & flag) !== 0) {
      const advice = `turn off the capability ${capability} on the source`
      refuse('capability', `ram record with ${name}: ${advice}`, streamOffset)
    }
  }
  if ((flags & RamFlag.memSize) !== 0) {
    refuse('ramFlags', 'a block list (MEM_SIZE) that does not begin the START of ram', streamOffset)
  }
  return refuse('ramFlags', `ram record with flags ${hex(flags)}`, streamOffset)
}

import { TARGET_PAGE_SIZE } from '../units.js'
import { RamFlag } from './constants.js'
import type { RamBlockInfo } from './types.js'
import type { Writer } from './writer.js'

/** u64 total | MEM_SIZE, then str8 name, u64 used length, [u64 page size] for each block. */
export function encodeRamBlockList(out: Writer, blocks: readonly RamBlockInfo[]): void {
  let total = 0
  for (const block of blocks) total += block.usedLengthBytes
  out.u64(total + RamFlag.memSize)
  for (const { name, usedLengthBytes, pageSizeBytes } of blocks) {
    checkAligned(usedLengthBytes)
    out.str8(name).u64(usedLengthBytes)
    if (pageSizeBytes !== undefined) out.u64(pageSizeBytes)
  }
}

/**
 * u64 offset | PAGE, [str8 block], the page.
 *
 * @param block - undefined: the block of the previous record on this channel
 * @param page - one target page
 */
export function encodeRamPage(
  out: Writer,
  block: string | undefined,
  offset: number,
  page: Uint8Array,
): void {
  if (page.length !== TARGET_PAGE_SIZE) {
    throw new RangeError(`a target page has ${TARGET_PAGE_SIZE} bytes, not ${page.length}`)
  }
  encodeRecordHeader(out, RamFlag.page, block, offset)
  out.bytes(page)
}

/** u64 offset | ZERO, [str8 block], u8 0. */
export function encodeRamZero(out: Writer, block: string | undefined, offset: number): void {
  encodeRecordHeader(out, RamFlag.zero, block, offset)
  out.u8(0)
}

/** u64 EOS: the data of this section ends; the footer follows. */
export function encodeRamEndOfSection(out: Writer): void {
  out.u64(RamFlag.endOfSection)
}

function encodeRecordHeader(
  out: Writer,
  kind: number,
  block: string | undefined,
  offset: number,
): void {
  checkAligned(offset)
  if (block === undefined) out.u64(offset + kind + RamFlag.continue)
  else out.u64(offset + kind).str8(block)
}

function checkAligned(bytes: number): void {
  if (bytes % TARGET_PAGE_SIZE !== 0) {
    throw new RangeError(`${bytes} is not a multiple of the target page size`)
  }
}

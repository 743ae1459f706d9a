/**
 * The block list of `ram`. In a mapped-ram file each entry is followed by
 *
 *   u32 version 1   u64 page size   u64 offset of the bitmap   u64 offset of the pages
 *   bitmap   a hole up to the pages   pages: page n at offset + n * page size
 *
 * and the next entry follows the last page. Offsets are those of the file.
 */
import { PageBitmap } from '../ram/index.js'
import { decodeName, RAM_FLAGS_MASK, RamFlag, RAM_ZERO_RECORD_BYTES } from '../stream/index.js'
import { BlockListDecoder, INCOMPLETE, u32At } from '../stream/internal.js'
import { TARGET_PAGE_SIZE, hex } from '../units.js'
import type { Cursor } from './cursor.js'
import { decodeInFile } from './saved-error.js'

const MOST_BLOCKS = 1024
/** An entry of the plain list, and the record after it. */
const MOST_ENTRY_BYTES = 1 + 255 + 8 + 8 + 8
const MAPPED_HEADER_BYTES = 28
/** The bitmaps of this much RAM take 64 MiB. */
const LEAST_RAM_LIMIT_BYTES = 2 ** 41
const MOST_RAM_BYTES = 2 ** 44

export interface HeadBlock {
  readonly name: string
  readonly lengthBytes: number
  /** Only in a mapped-ram file. */
  readonly mapped?: MappedPages
  /** Offset of its header in a mapped-ram file that has none of its pages (x-ignore-shared). */
  readonly sharedAt?: number
}

/** Where a mapped-ram file has the pages of a block. */
export interface MappedPages {
  /** Offset of page 0 in the file. */
  readonly pagesOffset: number
  /** Pages that are in the file. The bytes of all other pages are undefined: they are zero. */
  readonly data: PageBitmap
}

export interface BlockListLayout {
  readonly isMappedRam: boolean
  readonly isIgnoreShared: boolean
  /** From ADVISE; undefined without. */
  readonly pageSizeSummary: number | undefined
}

/** @param cursor - after the header of the START @throws SavedFileError */
export async function readBlockList(
  cursor: Cursor,
  layout: BlockListLayout,
): Promise<readonly HeadBlock[]> {
  if (layout.isMappedRam) return readMappedList(cursor, layout.isIgnoreShared)
  if (layout.isIgnoreShared) {
    const text = `it was saved with x-ignore-shared, and without mapped-ram: ${SHARED_ADVICE}`
    cursor.refuse('refused', text)
  }
  return readPlainList(cursor, layout.pageSizeSummary)
}

export const SHARED_ADVICE =
  'RAM that is shared (share=on) is not in the file, but in the file of its memory backend. Save ' +
  'the VM again with the capability x-ignore-shared off'

async function readPlainList(
  cursor: Cursor,
  pageSizeSummary: number | undefined,
): Promise<HeadBlock[]> {
  const start = cursor.offset
  const list = new BlockListDecoder({ maxRamBlocks: MOST_BLOCKS, pageSizeSummary })
  const { path, inside, endOffset } = cursor.source
  while (!list.isComplete) {
    await cursor.fill(MOST_ENTRY_BYTES)
    const { bytes, at, end, base } = cursor
    const next = decodeInFile(path, inside, () => list.step(bytes, at, end, base))
    if (next === INCOMPLETE) {
      cursor.refuse('truncated', 'the file ends inside the list of RAM blocks: it is not complete')
    }
    cursor.at = next
  }
  const ramBytes = list.blocks.reduce((sum, block) => sum + block.usedLengthBytes, 0)
  // Each page has a record of 9 bytes or more.
  const pages = Math.floor((endOffset - start) / RAM_ZERO_RECORD_BYTES)
  const limit = Math.max(LEAST_RAM_LIMIT_BYTES, pages * TARGET_PAGE_SIZE)
  checkRamBytes(cursor, ramBytes, limit, start)
  return list.blocks.map(({ name, usedLengthBytes }) => ({ name, lengthBytes: usedLengthBytes }))
}

async function readMappedList(cursor: Cursor, hasAddresses: boolean): Promise<HeadBlock[]> {
  const start = cursor.offset
  await cursor.need(8, 'the total length of RAM')
  const flags = u32At(cursor.bytes, cursor.at + 4) & RAM_FLAGS_MASK
  const total = (await cursor.u64('the total length of RAM')) - RamFlag.memSize
  if (flags !== RamFlag.memSize || total <= 0) {
    cursor.refuse('damaged', 'START of ram begins without the list of RAM blocks', start)
  }
  // The bitmap was written: it takes more than 64 MiB only in a file with as many bytes on disk.
  const described = cursor.source.allocatedBytes * 8 * TARGET_PAGE_SIZE
  checkRamBytes(cursor, total, Math.max(LEAST_RAM_LIMIT_BYTES, described), start)
  // RAM that is shared is not in the file, but is counted; its block is refused.
  if (total >= cursor.source.endOffset && !hasAddresses) {
    const what = `the file is shorter than its ${hex(total)} bytes of RAM`
    cursor.refuse('truncated', `${what}: it is not complete`, start)
  }
  const blocks: HeadBlock[] = []
  for (let left = total; left > 0;) {
    const offset = cursor.offset
    if (blocks.length === MOST_BLOCKS) {
      cursor.refuse('damaged', `more than ${MOST_BLOCKS} RAM blocks`, offset)
    }
    const block = await readMappedBlock(cursor, hasAddresses)
    if (blocks.some(({ name }) => name === block.name)) {
      cursor.refuse('damaged', `RAM block "${block.name}" is listed twice`, offset)
    }
    left -= block.lengthBytes
    if (left < 0) {
      cursor.refuse('damaged', `RAM block "${block.name}" exceeds the total length`, offset)
    }
    blocks.push(block)
  }
  return blocks
}

function checkRamBytes(cursor: Cursor, ramBytes: number, most: number, offset: number): void {
  if (ramBytes > Math.min(most, MOST_RAM_BYTES)) {
    const what = `${hex(ramBytes)} bytes of RAM are more than this file can hold`
    cursor.refuse('damaged', `the total length of RAM: ${what}`, offset)
  }
}

async function readMappedBlock(cursor: Cursor, hasAddresses: boolean): Promise<HeadBlock> {
  const offset = cursor.offset
  const name = await readName(cursor)
  const what = `RAM block "${name}"`
  const lengthBytes = await cursor.u64(`the length of ${what}`)
  if (lengthBytes === 0 || lengthBytes % TARGET_PAGE_SIZE !== 0) {
    cursor.refuse('damaged', `${what}: ${hex(lengthBytes)} bytes are not whole pages`, offset)
  }
  if (hasAddresses) await skip(cursor, 8, `the address of ${what}`)
  const headerOffset = cursor.offset
  await cursor.need(MAPPED_HEADER_BYTES, `the header of ${what}`)
  const version = await cursor.u32('')
  const pageSize = await cursor.u64(`the page size of ${what}`)
  const bitmapOffset = await cursor.u64(`the offset of the bitmap of ${what}`)
  const pagesOffset = await cursor.u64(`the offset of the pages of ${what}`)
  const damaged = (why: string): never => cursor.refuse('damaged', `${what}: ${why}`, headerOffset)
  if (version !== 1) damaged(`a header of version ${version}, not 1`)
  if (bitmapOffset === 0 && pagesOffset === 0) {
    return { name, lengthBytes, sharedAt: headerOffset }
  }
  if (pageSize !== TARGET_PAGE_SIZE) damaged(`pages of ${pageSize} bytes, not ${TARGET_PAGE_SIZE}`)
  if (bitmapOffset !== cursor.offset) {
    damaged(
      `its bitmap is at ${hex(bitmapOffset)}, not after its header at ${hex(cursor.offset)}. The ` +
        'offsets are those of the file it was saved to: it cannot be read if its stream was moved ' +
        'to another offset',
    )
  }
  const pageCount = lengthBytes / TARGET_PAGE_SIZE
  const bitmapBytes = PageBitmap.byteLength(pageCount)
  if (pagesOffset < bitmapOffset + bitmapBytes) {
    damaged(`its pages, at ${hex(pagesOffset)}, overlap its bitmap`)
  }
  // The end of the section follows the last page.
  if (pagesOffset + lengthBytes >= cursor.source.endOffset) {
    cursor.refuse(
      'truncated',
      `the file ends before the last page of ${what}: it is not complete`,
      headerOffset,
    )
  }
  const data = await readBitmap(cursor, pageCount, `the bitmap of ${what}`)
  cursor.seek(pagesOffset + lengthBytes)
  return { name, lengthBytes, mapped: { pagesOffset, data } }
}

async function readBitmap(cursor: Cursor, pageCount: number, field: string): Promise<PageBitmap> {
  const bitmap = new PageBitmap(pageCount)
  const { bytes } = bitmap
  if ((await cursor.source.read(bytes, cursor.offset)) < bytes.length) {
    cursor.refuse('truncated', `the file ends inside ${field}: it is not complete`)
  }
  for (let page = pageCount; page < bytes.length * 8; page += 1) {
    if (bitmap.test(page)) cursor.refuse('damaged', `${field}: bits after its last page are set`)
  }
  return bitmap
}

async function readName(cursor: Cursor): Promise<string> {
  const offset = cursor.offset
  const lengthBytes = await cursor.u8('the name of a RAM block')
  if (lengthBytes === 0) cursor.refuse('damaged', 'a RAM block without a name', offset)
  await cursor.need(lengthBytes, 'the name of a RAM block')
  cursor.at += lengthBytes
  return decodeName(cursor.bytes, cursor.at - lengthBytes, cursor.at)
}

async function skip(cursor: Cursor, count: number, field: string): Promise<void> {
  await cursor.need(count, field)
  cursor.at += count
}

/**
 * Indexes the records of `ram` in a stream: notes where the last copy of each page is, and skips the
 * pages themselves.
 */
import {
  RAM_FLAGS_MASK,
  RAM_PAGE_RECORD_BYTES,
  RAM_RECORD_HEAD_BYTES,
  RAM_ZERO_RECORD_BYTES,
  RamFlag,
  decodeName,
} from '../stream/index.js'
import { u32At } from '../stream/internal.js'
import { TARGET_PAGE_SIZE, hex } from '../units.js'
import type { HeadBlock } from './block-list.js'
import type { Cursor } from './cursor.js'
import { PageTable } from './page-table.js'

const CONTINUED_PAGE = RamFlag.page | RamFlag.continue
const CONTINUED_ZERO = RamFlag.zero | RamFlag.continue

/** Flags of records that a loader needs something else for. */
const REFUSED_FLAGS = [
  [RamFlag.xbzrle, 'XBZRLE', 'xbzrle'],
  [RamFlag.hook, 'HOOK', 'rdma-pin-all'],
  [RamFlag.compressPage, 'COMPRESS_PAGE', 'compress'],
  [RamFlag.multifdFlush, 'MULTIFD_FLUSH', 'multifd'],
] as const

interface IndexedBlock {
  readonly name: string
  readonly lengthBytes: number
  readonly table: PageTable
}

export class RecordIndex {
  readonly blocks: readonly IndexedBlock[]
  readonly #byName: ReadonlyMap<string, IndexedBlock>
  #last: IndexedBlock | undefined

  constructor(blocks: readonly HeadBlock[]) {
    this.blocks = blocks.map(({ name, lengthBytes }) => ({
      name,
      lengthBytes,
      table: new PageTable(),
    }))
    this.#byName = new Map(this.blocks.map((block) => [block.name, block]))
  }

  /**
   * Reads records up to the end of the section's data.
   *
   * @throws SavedFileError
   */
  async readSection(cursor: Cursor): Promise<void> {
    for (;;) {
      await cursor.need(RAM_RECORD_HEAD_BYTES, 'the records of section ram')
      if (this.#last !== undefined) {
        cursor.at = this.#skipContinued(this.#last, cursor)
        // The last page may end after the window, or after the file.
        if (cursor.offset > cursor.source.endOffset) {
          cursor.refuse(
            'truncated',
            `the file ends inside a page of RAM block "${this.#last.name}"`,
          )
        }
        if (cursor.end - cursor.at < RAM_RECORD_HEAD_BYTES) continue
      }
      if (await this.#readRecord(cursor)) return
    }
  }

  /** Takes records of the last block; returns the index of the first that needs another look. */
  #skipContinued({ lengthBytes, table }: IndexedBlock, cursor: Cursor): number {
    const { bytes, end, base } = cursor
    let { at } = cursor
    for (; at + RAM_ZERO_RECORD_BYTES <= end;) {
      const low = u32At(bytes, at + 4)
      const offset = u32At(bytes, at) * 2 ** 32 + ((low & ~RAM_FLAGS_MASK) >>> 0)
      if (offset >= lengthBytes) return at
      const flags = low & RAM_FLAGS_MASK
      if (flags === CONTINUED_PAGE) {
        table.set(offset / TARGET_PAGE_SIZE, base + at + RAM_RECORD_HEAD_BYTES)
        at += RAM_PAGE_RECORD_BYTES
      } else if (flags === CONTINUED_ZERO && bytes[at + RAM_RECORD_HEAD_BYTES] === 0) {
        table.clear(offset / TARGET_PAGE_SIZE)
        at += RAM_ZERO_RECORD_BYTES
      } else return at
    }
    return at
  }

  /** Reads a record of any kind; returns whether it is the last of the section. */
  async #readRecord(cursor: Cursor): Promise<boolean> {
    const start = cursor.offset
    const high = u32At(cursor.bytes, cursor.at)
    const low = u32At(cursor.bytes, cursor.at + 4)
    const flags = low & RAM_FLAGS_MASK
    cursor.at += RAM_RECORD_HEAD_BYTES
    if (flags === RamFlag.endOfSection) {
      if (high !== 0 || low !== flags) {
        cursor.refuse('damaged', 'the end of the records of ram has an offset', start)
      }
      return true
    }
    const kind = flags & ~RamFlag.continue
    if (kind !== RamFlag.page && kind !== RamFlag.zero) refuseFlags(cursor, flags, start)
    const block = await this.#blockOf(cursor, flags, start)
    this.#last = block
    const offset = high * 2 ** 32 + ((low & ~RAM_FLAGS_MASK) >>> 0)
    const what = `RAM block "${block.name}": the page at ${hex(offset)}`
    if (offset >= block.lengthBytes) {
      cursor.refuse('damaged', `${what} is outside its ${hex(block.lengthBytes)} bytes`, start)
    }
    if (kind === RamFlag.zero) {
      const fill = await cursor.u8(what)
      if (fill !== 0) cursor.refuse('damaged', `${what} is filled with ${hex(fill)}`, start)
      block.table.clear(offset / TARGET_PAGE_SIZE)
      return false
    }
    if (cursor.remaining < TARGET_PAGE_SIZE) {
      cursor.refuse('truncated', `the file ends inside ${what}: it is not complete`)
    }
    block.table.set(offset / TARGET_PAGE_SIZE, cursor.offset)
    cursor.at += TARGET_PAGE_SIZE
    return false
  }

  async #blockOf(cursor: Cursor, flags: number, start: number): Promise<IndexedBlock> {
    if ((flags & RamFlag.continue) !== 0) {
      return this.#last ?? cursor.refuse('damaged', 'a record that continues no RAM block', start)
    }
    const field = 'the name of a RAM block'
    const lengthBytes = await cursor.u8(field)
    await cursor.need(lengthBytes, field)
    cursor.at += lengthBytes
    const name = decodeName(cursor.bytes, cursor.at - lengthBytes, cursor.at)
    return (
      this.#byName.get(name) ??
      cursor.refuse('damaged', `a page of RAM block "${name}", which is not in the list`, start)
    )
  }
}

function refuseFlags(cursor: Cursor, flags: number, offset: number): never {
  for (const [flag, name, capability] of REFUSED_FLAGS) {
    if ((flags & flag) !== 0) {
      const advice = `save the VM again with the capability ${capability} off`
      cursor.refuse('refused', `a record of ram with ${name}: ${advice}`, offset)
    }
  }
  return cursor.refuse('damaged', `a record of ram with the flags ${hex(flags)}`, offset)
}

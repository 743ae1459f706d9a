/**
 * A saved stream after its block list: the records of `ram`, sections of other iterable devices,
 * which are skipped, and the devices.
 */
import { ElementType, RAM_FLAGS_MASK, RamFlag, SECTION_FOOTER } from '../stream/index.js'
import { DeviceTailCollector, sizeDevices, u32At } from '../stream/internal.js'
import { TARGET_PAGE_SIZE, hex } from '../units.js'
import type { Cursor } from './cursor.js'
import type { PageRows } from './page-table.js'
import { RecordIndex } from './record-index.js'
import { decodeInFile } from './saved-error.js'
import { findFooter } from './section-end.js'
import { type StreamHead, readCommand, readSection } from './stream-head.js'

/** Devices and description together. */
export const MOST_DEVICE_BYTES = 64 * 2 ** 20
export const MOST_DESCRIPTION_BYTES = 16 * 2 ** 20
/** The sections of iterable devices other than `ram`: bitmaps of disks. */
const MOST_SKIPPED_BYTES = 2 ** 30
const TAIL_PIECE_BYTES = 256 * 1024

export interface StreamBody {
  /** The pages of each block in the order of the list; empty for a mapped-ram file. */
  readonly pages: readonly PageRows[]
  readonly devicesOffset: number
  /** The FULL sections of all devices, unchanged. */
  readonly devices: Uint8Array
  /** JSON with the sizes of the devices, if the stream has it. */
  readonly description: Uint8Array | undefined
  /** Whether the stream has an END of `ram`, and nothing follows it. */
  readonly isPlain: boolean
}

/**
 * Reads from the block list to the end.
 *
 * @param cursor - after the block list, inside the START of `ram`
 * @throws SavedFileError
 */
export async function readBody(cursor: Cursor, head: StreamHead): Promise<StreamBody> {
  const sections = new SectionReader(cursor, head)
  await sections.readToDevices()
  const devicesOffset = cursor.offset
  const { devices, description } = await readDevices(cursor)
  checkEarlySections(cursor, head, devices, description)
  const isPlain = sections.hasEnd && cursor.remaining === 0
  return { pages: await sections.pages(), devicesOffset, devices, description, isPlain }
}

class SectionReader {
  readonly #cursor: Cursor
  readonly #head: StreamHead
  readonly #index: RecordIndex
  /** Ids of iterable devices other than `ram`. */
  readonly #others: number[] = []
  hasEnd = false

  constructor(cursor: Cursor, head: StreamHead) {
    this.#cursor = cursor
    this.#head = head
    this.#index = new RecordIndex(head.isMappedRam ? [] : head.blocks)
  }

  async pages(): Promise<PageRows[]> {
    const pages: PageRows[] = []
    for (const { lengthBytes, table } of this.#index.blocks) {
      pages.push(await table.finish(lengthBytes / TARGET_PAGE_SIZE))
    }
    return pages
  }

  /** Reads sections and commands up to the first device. */
  async readToDevices(): Promise<void> {
    const cursor = this.#cursor
    await this.#readRam('START')
    for (;;) {
      const type = await cursor.peek()
      switch (type) {
        case ElementType.sectionPart:
        case ElementType.sectionEnd:
          await this.#readSection(type)
          break
        case ElementType.sectionStart: {
          const { id } = await readSection(cursor, 'the START of a section')
          this.#others.push(id)
          await this.#skip(id)
          break
        }
        case ElementType.command:
          await readCommand(cursor)
          break
        case ElementType.sectionFull:
          this.#checkPages()
          return
        case undefined:
          return cursor.refuse('truncated', 'the file ends before the devices: it is not complete')
        default:
          return cursor.refuse('damaged', `${hex(type)} does not begin a section`)
      }
    }
  }

  async #readSection(type: number): Promise<void> {
    const cursor = this.#cursor
    const name = type === ElementType.sectionEnd ? 'END' : 'PART'
    const offset = cursor.offset
    await cursor.u8(`a section ${name}`)
    const id = await cursor.u32(`the id of a section ${name}`)
    if (id === this.#head.ramSectionId) {
      if (this.hasEnd) cursor.refuse('damaged', `${name} of section ram after its END`, offset)
      this.hasEnd = type === ElementType.sectionEnd
      await this.#readRam(name)
    } else if (this.#others.includes(id)) {
      await this.#skip(id)
    } else {
      cursor.refuse('damaged', `${name} of section ${id}, which has not started`, offset)
    }
  }

  async #readRam(name: string): Promise<void> {
    const cursor = this.#cursor
    if (this.#head.isMappedRam) await readEmptySection(cursor, name)
    else await this.#index.readSection(cursor)
    const offset = cursor.offset
    const type = await cursor.u8('the footer of section ram')
    const id = await cursor.u32('the footer of section ram')
    if (type !== SECTION_FOOTER || id !== this.#head.ramSectionId) {
      cursor.refuse('damaged', `${hex(type)} instead of the footer of section ram`, offset)
    }
  }

  async #skip(id: number): Promise<void> {
    const open = [this.#head.ramSectionId, ...this.#others]
    await findFooter(this.#cursor, id, open, this.#cursor.offset + MOST_SKIPPED_BYTES)
  }

  /** QEMU 11.1 takes both capabilities, and writes a file whose bitmaps are all empty. */
  #checkPages(): void {
    const { isMappedRam, blocks } = this.#head
    if (!isMappedRam || this.hasEnd) return
    if (blocks.every(({ mapped }) => mapped?.data.next() === -1)) {
      this.#cursor.refuse(
        'refused',
        'no page is marked as present: it was saved with both mapped-ram and background-snapshot, ' +
          'which QEMU writes without its bitmaps. Save it again with one of the two off',
      )
    }
  }
}

/** In a mapped-ram file, the sections of `ram` have no records. */
async function readEmptySection(cursor: Cursor, name: string): Promise<void> {
  const field = `section ${name} of ram`
  const offset = cursor.offset
  await cursor.need(8, field)
  const isEnd =
    u32At(cursor.bytes, cursor.at) === 0 &&
    u32At(cursor.bytes, cursor.at + 4) === RamFlag.endOfSection
  if (!isEnd) {
    const flags = hex(u32At(cursor.bytes, cursor.at + 4) & RAM_FLAGS_MASK)
    cursor.refuse('damaged', `${field} has records (flags ${flags}), in a mapped-ram file`, offset)
  }
  cursor.at += 8
}

async function readDevices(
  cursor: Cursor,
): Promise<{ devices: Uint8Array; description: Uint8Array | undefined }> {
  const { path, inside } = cursor.source
  const collector = new DeviceTailCollector(
    MOST_DEVICE_BYTES,
    MOST_DESCRIPTION_BYTES,
    cursor.offset,
  )
  for (;;) {
    const available = await cursor.fill(Math.min(TAIL_PIECE_BYTES, Math.max(1, cursor.remaining)))
    const { bytes, at } = cursor
    const { taken, tail } = decodeInFile(path, inside, () => {
      if (available === 0) return { taken: 0, tail: collector.finish() }
      return collector.append(bytes, at, at + available)
    })
    cursor.at += taken
    if (tail !== undefined) {
      const { devices, description } = tail
      const text = description === undefined ? undefined : new TextEncoder().encode(description)
      return { devices, description: text }
    }
  }
}

/** The end of an early section was found by its footer; the description confirms it. */
function checkEarlySections(
  cursor: Cursor,
  { earlySections }: StreamHead,
  devices: Uint8Array,
  description: Uint8Array | undefined,
): void {
  if (earlySections.length === 0) return
  const all = new Uint8Array(earlySections.length + devices.length)
  all.set(earlySections)
  all.set(devices, earlySections.length)
  if (description !== undefined && sizeDevices(all, description) !== undefined) return
  cursor.refuse(
    'refused',
    'it has devices that are loaded before RAM, such as virtio-mem, and their description is ' +
      'missing or differs: resume it with QEMU itself',
  )
}

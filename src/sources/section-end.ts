/**
 * The end of a section whose length is not known: its footer, followed by the header of another
 * element. State that looks like both, with the section's own id, would be mistaken for that.
 */
import { COMMAND_HEADER_BYTES, COMMANDS, ElementType, SECTION_FOOTER } from '../stream/index.js'
import { u16At, u32At } from '../stream/internal.js'
import type { Cursor } from './cursor.js'

const FOOTER_BYTES = 5
/** A footer and the longest header of a section. */
const LOOK_AHEAD_BYTES = FOOTER_BYTES + 6 + 255 + 8
const MOST_VERSION = 0xffff

/**
 * Moves the cursor to the element after the section that it is in.
 *
 * @param open - ids of iterable sections that may continue after this one
 * @param limitOffset - the section must end before
 * @throws SavedFileError if there is no such footer
 */
export async function findFooter(
  cursor: Cursor,
  id: number,
  open: readonly number[],
  limitOffset: number,
): Promise<void> {
  const start = cursor.offset
  const footer = Buffer.alloc(FOOTER_BYTES)
  footer.writeUInt8(SECTION_FOOTER)
  footer.writeUInt32BE(id, 1)
  for (;;) {
    const available = await cursor.fill(LOOK_AHEAD_BYTES)
    const { bytes, at, end } = cursor
    const window = Buffer.from(bytes.buffer, bytes.byteOffset + at, end - at)
    const found = window.indexOf(footer)
    if (found === -1) {
      if (cursor.remaining <= available || cursor.offset > limitOffset) break
      cursor.at = end - Math.min(FOOTER_BYTES - 1, available)
      if (available < LOOK_AHEAD_BYTES) break
      continue
    }
    if (cursor.offset + found > limitOffset) break
    cursor.at += found
    const ahead = await cursor.fill(LOOK_AHEAD_BYTES)
    const next = cursor.at + FOOTER_BYTES
    if (beginsElement(cursor.bytes, next, cursor.at + ahead, id, open)) {
      cursor.at = next
      return
    }
    cursor.at += 1
  }
  cursor.refuse('damaged', `the end of section ${id} was not found`, start)
}

/** Whether `bytes[at..end)` begins with the header of an element other than section `id`. */
function beginsElement(
  bytes: Uint8Array,
  at: number,
  end: number,
  id: number,
  open: readonly number[],
): boolean {
  if (end - at < COMMAND_HEADER_BYTES) return false
  const number = u32At(bytes, at + 1)
  switch (bytes[at]) {
    case ElementType.sectionStart:
    case ElementType.sectionFull:
      return number !== id && isHeader(bytes, at, end)
    case ElementType.sectionPart:
    case ElementType.sectionEnd:
      return open.includes(number)
    case ElementType.command: {
      const length = COMMANDS.get(u16At(bytes, at + 1))?.length
      const found = u16At(bytes, at + 3)
      return length === found || (Array.isArray(length) && length.includes(found))
    }
    default:
      return false
  }
}

function isHeader(bytes: Uint8Array, at: number, end: number): boolean {
  const nameBytes = bytes[at + 5] ?? 0
  const after = at + 6 + nameBytes
  if (nameBytes === 0 || after + 8 > end) return false
  for (let index = at + 6; index < after; index += 1) {
    const byte = bytes[index] ?? 0
    if (byte < 0x20 || byte > 0x7e) return false
  }
  return u32At(bytes, after + 4) <= MOST_VERSION
}

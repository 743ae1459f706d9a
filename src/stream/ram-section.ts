/** The parts of a `ram` section around the records that native code packs or takes. */
import {
  ElementType,
  RAM_RECORD_HEAD_BYTES,
  RamFlag,
  SECTION_FOOTER,
  SECTION_FOOTER_BYTES,
  SECTION_HEAD_BYTES,
} from './constants.js'

/** Bytes after the records of a `ram` section: EOS, then the footer. */
export const RAM_SECTION_TAIL_BYTES = RAM_RECORD_HEAD_BYTES + SECTION_FOOTER_BYTES

/**
 * Writes the head of a `ram` section to the start of a buffer, whose records native code packs.
 *
 * @returns where the records begin
 */
export function writeRamSectionHead(out: Uint8Array, kind: 'part' | 'end', id: number): number {
  out[0] = kind === 'part' ? ElementType.sectionPart : ElementType.sectionEnd
  writeU32(out, 1, id)
  return SECTION_HEAD_BYTES
}

/** Ends a `ram` section whose records end at `at`. @returns the end of the section */
export function writeRamSectionTail(out: Uint8Array, at: number, id: number): number {
  const footer = at + RAM_RECORD_HEAD_BYTES
  out.fill(0, at, footer - 1)
  out[footer - 1] = RamFlag.endOfSection
  out[footer] = SECTION_FOOTER
  writeU32(out, footer + 1, id)
  return footer + SECTION_FOOTER_BYTES
}

/** Writes the head of a page record of the block of the previous record. */
export function writeRamRecordHead(
  out: Uint8Array,
  kind: typeof RamFlag.page | typeof RamFlag.zero,
  offset: number,
): void {
  const head = offset + kind + RamFlag.continue
  writeU32(out, 0, Math.floor(head / 2 ** 32))
  writeU32(out, 4, head % 2 ** 32)
}

function writeU32(out: Uint8Array, at: number, value: number): void {
  out[at] = value >>> 24
  out[at + 1] = value >>> 16
  out[at + 2] = value >>> 8
  out[at + 3] = value
}

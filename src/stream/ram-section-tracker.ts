import { INCOMPLETE } from './channel-decoder.js'
import { ElementType, RAM_SECTION, RAM_SECTION_VERSION, SECTION_FOOTER } from './constants.js'
import { readSectionHeader } from './device-sections.js'
import { refuse } from './errors.js'
import type { StreamHandler } from './handler.js'
import { Reader, u32At } from './reader.js'
import type { SectionHeader } from './types.js'
import { hex } from '../units.js'

/** 7e, u32 id. */
export const FOOTER_BYTES = 5

/** Tracks `ram`, the only iterable section that can be parsed, from its START to its END. */
export class RamSectionTracker {
  readonly #handler: StreamHandler
  #header: SectionHeader | undefined
  #isLast = false
  #hasEnded = false

  /** @param resumedId - the section id for the connection of a recovery, which has no START */
  constructor(handler: StreamHandler, resumedId: number | undefined) {
    this.#handler = handler
    if (resumedId !== undefined) {
      const version = RAM_SECTION_VERSION
      this.#header = { id: resumedId, idstr: RAM_SECTION, instanceId: 0, version }
    }
  }

  /** Whether END and its footer were read. */
  get hasEnded(): boolean {
    return this.#hasEnded
  }

  /** Takes the header of a START; returns the index after it, or INCOMPLETE. */
  start(bytes: Uint8Array, at: number, end: number, offset: number): number {
    const idstrEnd = at + 6 + (end - at < 6 ? 0 : (bytes[at + 5] ?? 0))
    if (end - at < 6 || end < idstrEnd + 8) return INCOMPLETE
    const reader = new Reader(bytes, offset + 1, at + 1, end)
    const header = readSectionHeader(reader)
    const { id, idstr, instanceId, version } = header
    if (idstr !== RAM_SECTION || instanceId !== 0) {
      const what = `iterable device "${idstr}" (instance ${instanceId})`
      refuse('section', `${what}: only ram 0 can be received`, offset)
    }
    if (this.#header !== undefined) {
      refuse('section', `a second START of ram, with section id ${id}`, offset)
    }
    if (version !== RAM_SECTION_VERSION) {
      refuse('version', `section ram of version ${version}, not ${RAM_SECTION_VERSION}`, offset)
    }
    this.#header = header
    this.#handler.sectionStart?.(header)
    return at + 1 + reader.position
  }

  /** Takes the id of a PART or END. */
  resume(type: number, id: number, offset: number): void {
    const name = type === ElementType.sectionEnd ? 'END' : 'PART'
    const header = this.#header
    if (header?.id !== id) {
      return refuse('section', `${name} of section ${id}, which has not started`, offset)
    }
    if (this.#hasEnded) {
      refuse('section', `${name} of section ${id} (ram) after its END`, offset)
    }
    this.#isLast = type === ElementType.sectionEnd
    if (this.#isLast) this.#handler.sectionEnd?.(header)
    else this.#handler.sectionPart?.(header)
  }

  /** Takes the footer; returns false if it is incomplete. */
  close(bytes: Uint8Array, at: number, end: number, offset: number): boolean {
    const type = bytes[at] ?? 0
    if (type !== SECTION_FOOTER) {
      refuse('footer', `section ram: ${hex(type)} instead of its footer`, offset)
    }
    if (end - at < FOOTER_BYTES) return false
    const id = u32At(bytes, at + 1)
    if (id !== this.#header?.id) {
      refuse('footer', `section ram (${this.#header?.id ?? ''}): footer of section ${id}`, offset)
    }
    if (this.#isLast) this.#hasEnded = true
    this.#handler.footer?.(id)
    return true
  }
}

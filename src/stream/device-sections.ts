import { ElementType, SECTION_FOOTER } from './constants.js'
import { encodeFooter, encodeSectionFull } from './encode-section.js'
import { refuse } from './errors.js'
import { Reader } from './reader.js'
import type { SectionHeader } from './types.js'
import { Writer } from './writer.js'
import { hex } from '../units.js'

/** Writes consecutive FULL sections, as in a package or at the end of a precopy. */
export class DeviceSectionWriter {
  readonly #out = new Writer(4096)
  #nextId: number

  /** @param firstId - section id of the first device; no id may be that of `ram` */
  constructor(firstId: number) {
    this.#nextId = firstId
  }

  /** Bytes written so far. */
  get length(): number {
    return this.#out.length
  }

  /** Adds the state of one device; `body` writes its fields. */
  add(device: Omit<SectionHeader, 'id'>, body: (out: Writer) => void): void {
    const id = this.#nextId
    this.#nextId += 1
    encodeSectionFull(this.#out, { ...device, id })
    body(this.#out)
    encodeFooter(this.#out, id)
  }

  /** Returns the sections and empties the writer. */
  take(): Uint8Array<ArrayBuffer> {
    return this.#out.take()
  }
}

/** The section of a device: read exactly its body, then continue with the next section. */
export interface DeviceSection {
  readonly header: SectionHeader
  /** Positioned at the first byte of the body. Only the device knows the length of its body. */
  readonly body: Reader
}

/**
 * Reads FULL sections whose devices the caller knows. The caller pulls each section, because
 * loading a device may take long.
 */
export class DeviceSectionReader {
  readonly #reader: Reader
  readonly #ids = new Set<number>()
  #open: { header: SectionHeader; offset: number } | undefined

  /** @param source - the bytes of the sections, or a reader positioned at the first one */
  constructor(source: Reader | Uint8Array, streamOffset = 0) {
    this.#reader = source instanceof Reader ? source : new Reader(source, streamOffset)
  }

  /**
   * Checks the footer of the previous section and returns the next one; undefined if no FULL
   * section follows.
   *
   * @throws StreamError `ERR_STREAM_FOOTER` if a device read too little or too much
   */
  next(): DeviceSection | undefined {
    const reader = this.#reader
    this.#close()
    if (reader.peek() !== ElementType.sectionFull) return undefined
    const offset = reader.streamOffset
    reader.u8()
    const header = readSectionHeader(reader)
    if (this.#ids.has(header.id)) {
      refuse('section', `section id ${header.id} of "${header.idstr}" is already used`, offset)
    }
    this.#ids.add(header.id)
    this.#open = { header, offset }
    return { header, body: reader }
  }

  #close(): void {
    if (this.#open === undefined) return
    const { header, offset } = this.#open
    this.#open = undefined
    const reader = this.#reader
    const footerOffset = reader.streamOffset
    const what = `device "${header.idstr}" (instance ${header.instanceId}, at ${offset})`
    const found = reader.peek()
    if (found !== SECTION_FOOTER) {
      refuse('footer', `${what}: no footer after its data, but ${byte(found)}`, footerOffset)
    }
    reader.u8()
    const id = reader.u32()
    if (id !== header.id) {
      refuse('footer', `${what}: footer of section ${id}, not ${header.id}`, footerOffset)
    }
  }
}

/**
 * Reads all of `bytes` as FULL sections.
 *
 * @param load - reads exactly the body of its device
 * @throws StreamError, also for bytes after the last section
 */
export function decodeDeviceSections(
  bytes: Uint8Array,
  load: (header: SectionHeader, body: Reader) => void,
  streamOffset = 0,
): void {
  const reader = new Reader(bytes, streamOffset)
  const sections = new DeviceSectionReader(reader)
  for (let section = sections.next(); section !== undefined; section = sections.next()) {
    load(section.header, section.body)
  }
  if (reader.remaining > 0) {
    refuse('element', `${byte(reader.peek())} does not begin a device section`, reader.streamOffset)
  }
}

/** u32 id, str8 idstr, u32 instance id, u32 version: follows the type of a START or FULL. */
export function readSectionHeader(reader: Reader): SectionHeader {
  const id = reader.u32()
  const idstr = reader.str8()
  const instanceId = reader.u32()
  const version = reader.u32()
  return { id, idstr, instanceId, version }
}

function byte(value: number | undefined): string {
  return value === undefined ? 'the end' : `byte ${hex(value)}`
}

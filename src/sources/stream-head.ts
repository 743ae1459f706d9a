/**
 * The beginning of a saved stream: configuration, devices with early setup, and the block list of
 * `ram`. In a mapped-ram file the list has the place of each block's pages.
 */
import {
  COMMAND_HEADER_BYTES,
  COMMANDS,
  Command,
  type ConfigurationSubsection,
  ElementType,
  encode,
  encodeConfiguration,
  FILE_MAGIC,
  FILE_VERSION,
  RAM_SECTION,
  RAM_SECTION_VERSION,
  Reader,
} from '../stream/index.js'
import { readConfiguration, u16At, u32At } from '../stream/internal.js'
import { hex } from '../units.js'
import { type HeadBlock, readBlockList } from './block-list.js'
import type { Cursor } from './cursor.js'
import { decodeInFile } from './saved-error.js'
import { findFooter } from './section-end.js'

/** The configuration has at most 17 KiB. */
const MOST_CONFIGURATION_BYTES = 32 * 1024
/** The early sections of virtio-mem have about a hundred bytes each. */
const MOST_EARLY_BYTES = 1024 * 1024
const MAPPED_RAM = 'mapped-ram'
const IGNORE_SHARED = 'x-ignore-shared'
/** Capabilities that only describe the file. */
const LAYOUT = [MAPPED_RAM, IGNORE_SHARED]

export interface StreamHead {
  readonly machineType: string
  /** The configuration element, without the capabilities that only describe the file. */
  readonly configuration: Uint8Array
  readonly isMappedRam: boolean
  readonly ramSectionId: number
  /** FULL sections before `ram`, unchanged: devices with early setup, such as virtio-mem. */
  readonly earlySections: Uint8Array
  readonly blocks: readonly HeadBlock[]
}

/** What follows the magic number. */
export interface StreamIdentity {
  readonly machineType: string
  readonly capabilities: readonly string[]
  readonly configuration: Uint8Array
}

/** Reads the file header and the configuration. @throws SavedFileError */
export async function readIdentity(cursor: Cursor): Promise<StreamIdentity> {
  const start = cursor.offset
  const magic = await cursor.u32('the file header')
  if (magic !== FILE_MAGIC) {
    cursor.refuse('format', `${hex(magic)} does not begin a migration stream`, start)
  }
  const version = await cursor.u32('the version of the stream')
  if (version !== FILE_VERSION) {
    cursor.refuse('damaged', `a stream of version ${version}, not ${FILE_VERSION}`, start + 4)
  }
  const type = await cursor.peek()
  if (type !== ElementType.configuration) {
    const found = type === undefined ? 'the end' : hex(type)
    cursor.refuse(
      type === undefined ? 'truncated' : 'damaged',
      `${found} instead of the configuration, which tells the machine type`,
    )
  }
  const available = await cursor.fill(MOST_CONFIGURATION_BYTES)
  const { bytes, at } = cursor
  const reader = new Reader(bytes, cursor.offset, at, at + available)
  const { path, inside } = cursor.source
  const readable = [MAPPED_RAM, IGNORE_SHARED]
  const found = decodeInFile(path, inside, () => readConfiguration(reader, readable))
  if (found === undefined) {
    cursor.refuse('truncated', 'the file ends inside the configuration: it is not complete')
  }
  const { machineType, subsections } = found
  cursor.at += reader.position
  return {
    machineType,
    capabilities: subsections.flatMap((one) => ('capabilities' in one ? one.capabilities : [])),
    configuration: encode((out) => {
      encodeConfiguration(out, machineType, subsections.flatMap(withoutLayout))
    }),
  }
}

/** A destination of ours gets the pages over a connection, so the file's layout is not its. */
function withoutLayout(subsection: ConfigurationSubsection): ConfigurationSubsection[] {
  if (!('capabilities' in subsection)) return [subsection]
  const capabilities = subsection.capabilities.filter((name) => !LAYOUT.includes(name))
  return capabilities.length === 0 ? [] : [{ ...subsection, capabilities }]
}

export function isMappedRam({ capabilities }: StreamIdentity): boolean {
  return capabilities.includes(MAPPED_RAM)
}

/**
 * Reads up to the end of the block list.
 *
 * @param cursor - at the first byte of the stream
 * @throws SavedFileError
 */
export async function readHead(cursor: Cursor): Promise<StreamHead> {
  const identity = await readIdentity(cursor)
  const { machineType, configuration, capabilities } = identity
  const { earlySections, pageSizes } = await readPrologue(cursor)
  const ramSectionId = await readRamHeader(cursor)
  const layout = {
    isMappedRam: isMappedRam(identity),
    isIgnoreShared: capabilities.includes(IGNORE_SHARED),
    pageSizeSummary: pageSizes,
  }
  if (layout.isMappedRam && cursor.source.inside !== undefined) {
    cursor.refuse(
      'refused',
      'it was saved by savevm with the capability mapped-ram, and its pages are lost, because ' +
        'QEMU wrote them elsewhere: turn the capability off and save again',
    )
  }
  const blocks = await readBlockList(cursor, layout)
  const { isMappedRam: isMapped } = layout
  return { machineType, configuration, isMappedRam: isMapped, ramSectionId, earlySections, blocks }
}

/** Reads commands and early sections, up to the START of `ram`. */
async function readPrologue(
  cursor: Cursor,
): Promise<{ earlySections: Uint8Array; pageSizes: number | undefined }> {
  let earlyOffset: number | undefined
  let pageSizes: number | undefined
  for (;;) {
    const type = await cursor.peek()
    if (type === ElementType.command) {
      pageSizes = (await readCommand(cursor)) ?? pageSizes
    } else if (type === ElementType.sectionFull) {
      earlyOffset ??= cursor.offset
      const { id } = await readSection(cursor, 'a device section before RAM')
      await findFooter(cursor, id, [], earlyOffset + MOST_EARLY_BYTES)
    } else break
  }
  if (earlyOffset === undefined) return { earlySections: new Uint8Array(0), pageSizes }
  const end = cursor.offset
  cursor.seek(earlyOffset)
  const field = 'the device sections before RAM'
  return { earlySections: await cursor.take(end - earlyOffset, field), pageSizes }
}

async function readRamHeader(cursor: Cursor): Promise<number> {
  const offset = cursor.offset
  const type = await cursor.peek()
  if (type !== ElementType.sectionStart) {
    const found = type === undefined ? 'the end' : hex(type)
    const kind = type === undefined ? 'truncated' : 'damaged'
    cursor.refuse(kind, `${found} instead of the START of section ram`)
  }
  const { id, name, version } = await readSection(cursor, 'the START of section ram')
  if (name !== RAM_SECTION) {
    cursor.refuse('refused', `the stream begins with the device "${name}", not with RAM`, offset)
  }
  if (version !== RAM_SECTION_VERSION) {
    cursor.refuse('damaged', `section ram of version ${version}, not 4`, offset)
  }
  return id
}

/** Reads the header of a START or FULL, with its type byte. */
export async function readSection(
  cursor: Cursor,
  field: string,
): Promise<{ id: number; name: string; version: number }> {
  await cursor.need(6, field)
  const nameBytes = cursor.bytes[cursor.at + 5] ?? 0
  await cursor.need(6 + nameBytes + 8, field)
  const reader = new Reader(cursor.bytes, cursor.offset, cursor.at, cursor.end)
  reader.u8()
  const id = reader.u32()
  const name = reader.str8()
  reader.u32()
  const version = reader.u32()
  cursor.at += reader.position
  return { id, name, version }
}

/** Skips a command; returns the page sizes of an ADVISE. */
export async function readCommand(cursor: Cursor): Promise<number | undefined> {
  const field = 'a command'
  const offset = cursor.offset
  await cursor.need(COMMAND_HEADER_BYTES, field)
  const number = u16At(cursor.bytes, cursor.at + 1)
  const lengthBytes = u16At(cursor.bytes, cursor.at + 3)
  const known = COMMANDS.get(number)
  if (known === undefined) cursor.refuse('damaged', `unknown command ${hex(number)}`)
  if (number === Command.packaged) {
    cursor.refuse(
      'refused',
      'it is the stream of a postcopy migration: make a parked VM of it with ' +
        '`postcopy park --from FILE --to DIR`',
    )
  }
  cursor.at += COMMAND_HEADER_BYTES
  await cursor.need(lengthBytes, field)
  const body = cursor.at
  cursor.at += lengthBytes
  if (number !== Command.advise || lengthBytes < 8) return undefined
  const high = u32At(cursor.bytes, body)
  if (high >= 2 ** 21) cursor.refuse('damaged', 'ADVISE with impossible page sizes', offset)
  return high * 2 ** 32 + u32At(cursor.bytes, body + 4)
}

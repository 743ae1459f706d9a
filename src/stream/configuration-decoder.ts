/**
 * The configuration, which follows the file header:
 *
 *   07   u32 length   machine type   then up to three:   05   str8 name   u32 version   data
 *
 * It has no end mark, so decoding needs one byte more than its own.
 */
import { TARGET_PAGE_SIZE } from '../units.js'
import { ConfigurationSubsectionName, ElementType } from './constants.js'
import { refuse } from './errors.js'
import { copyOf, type Reader } from './reader.js'
import type { ConfigurationSubsection } from './types.js'

const MAX_MACHINE_TYPE_BYTES = 255
const MAX_CAPABILITIES = 64

/** Capabilities that change the layout of the `ram` section. */
const UNREADABLE_CAPABILITIES = ['x-ignore-shared', 'mapped-ram']

export interface Configuration {
  readonly machineType: string
  readonly subsections: readonly ConfigurationSubsection[]
}

/**
 * Reads the whole element. The next byte of the reader must be its type byte.
 *
 * @param readable - capabilities that change the layout, but that the caller can read
 * @returns undefined if the element is incomplete
 */
export function readConfiguration(
  reader: Reader,
  readable: readonly string[] = [],
): Configuration | undefined {
  const offset = reader.streamOffset
  if (reader.remaining < 5) return undefined
  reader.u8()
  const length = reader.u32()
  if (length === 0 || length > MAX_MACHINE_TYPE_BYTES) {
    refuse('configuration', `a machine type of ${length} bytes`, offset)
  }
  if (reader.remaining < length) return undefined
  const machineType = reader.name(length)

  const subsections: ConfigurationSubsection[] = []
  for (;;) {
    const next = reader.peek()
    if (next === undefined) return undefined
    if (next !== ElementType.subsection) return { machineType, subsections }
    const subsection = readSubsection(reader, readable)
    if (subsection === undefined) return undefined
    if (subsections.some(({ name }) => name === subsection.name)) {
      refuse('configuration', `a second subsection ${subsection.name}`, offset)
    }
    subsections.push(subsection)
  }
}

function readSubsection(
  reader: Reader,
  readable: readonly string[],
): ConfigurationSubsection | undefined {
  const offset = reader.streamOffset
  if (reader.remaining < 2) return undefined
  reader.u8()
  const nameLength = reader.peek() ?? 0
  if (reader.remaining < 1 + nameLength + 4) return undefined
  const name = reader.str8()
  const version = reader.u32()
  if (version !== 1) refuse('version', `subsection ${name} of version ${version}, not 1`, offset)
  switch (name) {
    case ConfigurationSubsectionName.targetPageBits:
      return readTargetPageBits(reader, name, offset)
    case ConfigurationSubsectionName.capabilities:
      return readCapabilities(reader, name, offset, readable)
    case ConfigurationSubsectionName.uuid:
      return reader.remaining < 16 ? undefined : { name, uuid: copyOf(reader.bytes(16), 0, 16) }
    default:
      return refuse('configuration', `unknown subsection "${name}"`, offset)
  }
}

function readTargetPageBits(
  reader: Reader,
  name: typeof ConfigurationSubsectionName.targetPageBits,
  offset: number,
): ConfigurationSubsection | undefined {
  if (reader.remaining < 4) return undefined
  const bits = reader.u32()
  if (2 ** bits !== TARGET_PAGE_SIZE) {
    const expected = Math.log2(TARGET_PAGE_SIZE)
    refuse('configuration', `target pages of 2^${bits} bytes, not 2^${expected}`, offset)
  }
  return { name, bits }
}

function readCapabilities(
  reader: Reader,
  name: typeof ConfigurationSubsectionName.capabilities,
  offset: number,
  readable: readonly string[],
): ConfigurationSubsection | undefined {
  if (reader.remaining < 4) return undefined
  const count = reader.u32()
  if (count > MAX_CAPABILITIES) refuse('limit', `${count} capabilities`, offset)
  const capabilities: string[] = []
  while (capabilities.length < count) {
    const length = reader.peek()
    if (length === undefined || reader.remaining < 1 + length) return undefined
    const capability = reader.str8()
    if (UNREADABLE_CAPABILITIES.includes(capability) && !readable.includes(capability)) {
      const advice = `turn off the capability ${capability} on the source`
      refuse('capability', `the stream was made with ${capability}: ${advice}`, offset)
    }
    capabilities.push(capability)
  }
  return { name, capabilities }
}

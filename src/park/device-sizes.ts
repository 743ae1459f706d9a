/**
 * The sizes of device sections, which have no length themselves, by the description that QEMU
 * puts behind a precopy (protocol section 6.2). Every section is checked against its bytes.
 */
import { ElementType, Reader, SECTION_FOOTER } from '../stream/index.js'

export interface DeviceSize {
  readonly idstr: string
  readonly instanceId: number
  readonly version: number
  /** Of its state, without header and footer. */
  readonly lengthBytes: number
}

/** Byte of type, u32 length of name, u32 version: what a subsection's name stands between. */
const SUBSECTION_HEAD_BYTES = 6

/**
 * @returns the devices in order; undefined where the description is not of these sections
 */
export function sizeDevices(sections: Uint8Array, description: string): DeviceSize[] | undefined {
  const found: DeviceSize[] = []
  try {
    const reader = new Reader(sections)
    for (const device of list(record(JSON.parse(description)), 'devices')) {
      const lengthBytes = bodyBytes(device)
      if (reader.u8() !== ElementType.sectionFull) return undefined
      const id = reader.u32()
      const idstr = reader.str8()
      const instanceId = reader.u32()
      const version = reader.u32()
      reader.bytes(lengthBytes)
      if (idstr !== device['name'] || reader.u8() !== SECTION_FOOTER || reader.u32() !== id) {
        return undefined
      }
      found.push({ idstr, instanceId, version, lengthBytes })
    }
    return reader.remaining === 0 ? found : undefined
  } catch {
    // Not JSON, not of this shape, or longer than the sections: no description of these.
    return undefined
  }
}

function bodyBytes(state: Readonly<Record<string, unknown>>): number {
  let bytes = 0
  for (const field of list(state, 'fields')) {
    bytes +=
      count(field['size']) * (field['array_len'] === undefined ? 1 : count(field['array_len']))
  }
  if (state['subsections'] === undefined) return bytes
  for (const subsection of list(state, 'subsections')) {
    const name = subsection['vmsd_name']
    if (typeof name !== 'string') throw new TypeError('a subsection has a name')
    bytes += SUBSECTION_HEAD_BYTES + name.length + bodyBytes(subsection)
  }
  return bytes
}

function list(object: Readonly<Record<string, unknown>>, key: string): Record<string, unknown>[] {
  const value = object[key]
  if (!Array.isArray(value)) throw new TypeError(`${key} is a list`)
  return value.map(record)
}

function record(value: unknown): Record<string, unknown> {
  if (typeof value !== 'object' || value === null) throw new TypeError('an object')
  return value as Record<string, unknown>
}

function count(value: unknown): number {
  if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 0) {
    throw new TypeError('a count')
  }
  return value
}

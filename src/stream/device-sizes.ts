/**
 * The sizes of device sections, which carry no length. They are in the description that QEMU sends
 * after a precopy (protocol section 6.2). Each is checked against the bytes of its section.
 */
import { ElementType, SECTION_FOOTER } from './constants.js'
import { JsonReader } from './json-reader.js'
import { encodeName } from './names.js'
import { Reader } from './reader.js'

export interface DeviceSize {
  readonly idstr: string
  readonly instanceId: number
  readonly version: number
  /** Bytes of the device's state, without header and footer. */
  readonly lengthBytes: number
}

/** A subsection has a type byte, the u8 length of its name, the name, and a u32 version. */
const SUBSECTION_HEAD_BYTES = 6
/** A thousand vCPUs make three thousand devices. */
const MAX_DEVICES = 16_384

/** A device, or a subsection of one, in the description. */
interface Described {
  readonly name: string
  readonly bytes: number
}

/**
 * @param description - the JSON text
 * @returns the devices in order; undefined if the description does not match these sections
 */
export function sizeDevices(
  sections: Uint8Array,
  description: Uint8Array,
): DeviceSize[] | undefined {
  let found: DeviceSize[] | undefined
  const reader = new Reader(sections)
  try {
    const json = new JsonReader(description)
    json.object((member) => {
      if (member !== 'devices') {
        json.skip()
        return
      }
      const devices: DeviceSize[] = []
      found = devices
      json.array(() => {
        devices.push(nextDevice(reader, readState(json, 'name')))
        if (devices.length > MAX_DEVICES) throw new RangeError('too many devices')
      })
    })
    json.end()
    return reader.remaining === 0 ? found : undefined
  } catch {
    // Not JSON, another shape, or longer than the sections: not a description of these.
    return undefined
  }
}

/** Reads a section. @throws Error if it does not match its description */
function nextDevice(reader: Reader, { name, bytes }: Described): DeviceSize {
  const type = reader.u8()
  const id = reader.u32()
  const idstr = reader.str8()
  const instanceId = reader.u32()
  const version = reader.u32()
  reader.bytes(bytes)
  const isWhole = reader.u8() === SECTION_FOOTER && reader.u32() === id
  if (type !== ElementType.sectionFull || idstr !== name || !isWhole) {
    throw new RangeError(`no section of ${name}`)
  }
  return { idstr, instanceId, version, lengthBytes: bytes }
}

/** Reads the object of a device or subsection, and sums up its fields. */
function readState(json: JsonReader, nameKey: 'name' | 'vmsd_name'): Described {
  let name: string | undefined
  let fieldBytes: number | undefined
  let bytes = 0
  json.object((member) => {
    if (member === nameKey) name = json.text()
    else if (member === 'fields') {
      fieldBytes = 0
      json.array(() => (fieldBytes = (fieldBytes ?? 0) + readField(json)))
    } else if (member === 'subsections') {
      json.array(() => {
        const subsection = readState(json, 'vmsd_name')
        bytes += SUBSECTION_HEAD_BYTES + encodeName(subsection.name).length + subsection.bytes
      })
    } else json.skip()
  })
  if (name === undefined || fieldBytes === undefined)
    throw new TypeError('a section without a name or fields')
  return { name, bytes: bytes + fieldBytes }
}

function readField(json: JsonReader): number {
  let size: number | undefined
  let count = 1
  json.object((member) => {
    if (member === 'size') size = json.count()
    else if (member === 'array_len') count = json.count()
    else json.skip()
  })
  if (size === undefined) throw new TypeError('a field without a size')
  return size * count
}

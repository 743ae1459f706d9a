/** Lists the devices of FULL sections that have no description; their state stays opaque. */
import { ElementType, Reader, SECTION_FOOTER } from '../stream/index.js'

const FOOTER_BYTES = 5
const MAX_DEVICES = 16_384
/** QEMU's name for a PCI device: its bus, slot and function. */
const PCI = /^[0-9a-f]{4}:([0-9a-f]{2}:[0-9a-f]{2}\.[0-7])\/(.+)$/
const VCPU = 'cpu_common'

export interface ListedDevice {
  readonly idstr: string
  readonly instanceId: number
}

/**
 * A section ends where its footer precedes the header of the next one, or the end of the bytes.
 * Device state that looks like both, with the section's own id, would be mistaken for that.
 *
 * @returns the devices in order, as far as they are recognized
 */
export function listDevices(sections: Uint8Array): ListedDevice[] {
  const bytes = Buffer.from(sections.buffer, sections.byteOffset, sections.length)
  const devices: ListedDevice[] = []
  for (let at: number | undefined = 0; at !== undefined && devices.length < MAX_DEVICES;) {
    const header = headerAt(bytes, at)
    if (header === undefined) break
    devices.push({ idstr: header.idstr, instanceId: header.instanceId })
    at = nextSection(bytes, header.id, header.bodyAt)
  }
  return devices
}

/** The QEMU options that these devices need. */
export function describeDevices(devices: readonly ListedDevice[]): string {
  const vcpus = devices.filter(({ idstr }) => idstr === VCPU).length
  const slots = devices.flatMap(({ idstr }) => {
    const [, slot, name] = PCI.exec(idstr) ?? []
    return slot === undefined || name === undefined ? [] : [`${name} at ${slot}`]
  })
  return [
    ...(vcpus === 0 ? [] : [`-smp ${vcpus}`]),
    ...(slots.length === 0 ? [] : [`the PCI devices ${slots.join(', ')}`]),
  ].join(' and ')
}

function headerAt(
  bytes: Buffer,
  at: number,
): { id: number; idstr: string; instanceId: number; bodyAt: number } | undefined {
  if (bytes[at] !== ElementType.sectionFull) return undefined
  const reader = new Reader(bytes, 0, at)
  if (reader.remaining < 1 + 4 + 1 + (bytes[at + 5] ?? 0) + 8) return undefined
  reader.u8()
  const id = reader.u32()
  const idstr = reader.str8()
  const instanceId = reader.u32()
  reader.u32()
  return /^[\x20-\x7e]+$/.test(idstr)
    ? { id, idstr, instanceId, bodyAt: at + reader.position }
    : undefined
}

function nextSection(bytes: Buffer, id: number, from: number): number | undefined {
  const footer = Buffer.alloc(FOOTER_BYTES)
  footer.writeUInt8(SECTION_FOOTER)
  footer.writeUInt32BE(id, 1)
  for (let at = bytes.indexOf(footer, from); at !== -1; at = bytes.indexOf(footer, at + 1)) {
    if (headerAt(bytes, at + FOOTER_BYTES) !== undefined) return at + FOOTER_BYTES
  }
  return undefined
}

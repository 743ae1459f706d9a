/** The run state that QEMU saves with the devices. */
import { ElementType, Reader } from '../stream/index.js'

const NAME = 'globalstate'
/** u8 length, name, u32 instance 0, u32 version 1. */
const HEADER = Buffer.concat([
  Buffer.from([NAME.length]),
  Buffer.from(NAME),
  Buffer.from([0, 0, 0, 0, 0, 0, 0, 1]),
])
/** Type and id of a section, before the name. */
const BEFORE_NAME_BYTES = 5
const MOST_TEXT_BYTES = 100

/**
 * @param devices - the FULL sections
 * @returns QEMU's name of the state, such as `running` or `paused`; undefined if it is not there
 */
export function runStateOf(devices: Uint8Array): string | undefined {
  const bytes = Buffer.from(devices.buffer, devices.byteOffset, devices.length)
  for (let at = bytes.lastIndexOf(HEADER); at >= BEFORE_NAME_BYTES;) {
    const body = at + HEADER.length
    if (bytes[at - BEFORE_NAME_BYTES] === ElementType.sectionFull && body + 4 <= bytes.length) {
      const reader = new Reader(bytes, 0, body)
      const length = reader.u32()
      const text = reader.bytes(Math.min(length, reader.remaining, MOST_TEXT_BYTES))
      const end = text.indexOf(0)
      const state = Buffer.from(end === -1 ? text : text.subarray(0, end)).toString('latin1')
      if (/^[a-z-]+$/.test(state)) return state
    }
    at = bytes.lastIndexOf(HEADER, at - 1)
  }
  return undefined
}

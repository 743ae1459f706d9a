/**
 * The header of a libvirt save image (`virsh save`, `virsh restore`), format raw: a plain stream
 * follows it. Every libvirt and every QEMU reads this format. The format `sparse`, which has a
 * `mapped-ram` file instead, needs a libvirt that supports it, and QEMU 9.0.
 *
 * Its numbers have the byte order of the host. The data begins with the domain XML and a NUL; then
 * zeros follow, so that `virsh save-image-edit` can write a longer XML in place.
 */
import { endianness } from 'node:os'
import {
  LIBVIRT_HEADER_BYTES,
  LIBVIRT_MAGIC,
  LIBVIRT_VERSION,
  libvirtFormats,
} from '../sources/internal.js'

const PADDING_BYTES = 2 ** 16
const WAS_RUNNING = 1
const FORMAT_RAW = libvirtFormats.indexOf('raw')
/** The offset if there is no cookie. */
const NO_COOKIE = 0

/**
 * @param xml - of the domain, without NUL
 * @param cookie - XML of libvirt's own, from the image that the domain came from
 */
export function encodeLibvirtHeader(xml: Uint8Array, cookie?: Uint8Array): Uint8Array {
  const cookieBytes = cookie === undefined ? 0 : cookie.length + 1
  const dataBytes = xml.length + 1 + cookieBytes + PADDING_BYTES
  const cookieOffset = cookie === undefined ? NO_COOKIE : xml.length + 1
  const header = new Uint8Array(LIBVIRT_HEADER_BYTES + dataBytes)
  header.set(new TextEncoder().encode(LIBVIRT_MAGIC))
  const fields = [LIBVIRT_VERSION, dataBytes, WAS_RUNNING, FORMAT_RAW, cookieOffset]
  const view = new DataView(header.buffer)
  const isLittle = endianness() === 'LE'
  for (const [index, value] of fields.entries()) {
    view.setUint32(LIBVIRT_MAGIC.length + index * 4, value, isLittle)
  }
  header.set(xml, LIBVIRT_HEADER_BYTES)
  if (cookie !== undefined) header.set(cookie, LIBVIRT_HEADER_BYTES + cookieOffset)
  return header
}

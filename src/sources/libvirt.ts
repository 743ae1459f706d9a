/**
 * The header of libvirt's images (`virsh save`, `managedsave`), in the byte order of its host:
 *
 *   16 bytes "LibvirtQemudSave"   u32 version   u32 data length   u32 was running   u32 format
 *   u32 offset of the cookie in the data   14 * u32 zero
 *   data: XML, 00, cookie XML, 00, zeros   then the payload
 */
import type { Cursor } from './cursor.js'

export const LIBVIRT_MAGIC = 'LibvirtQemudSave'
/** The magic while libvirt still writes the image. */
export const LIBVIRT_PARTIAL_MAGIC = 'LibvirtQemudPart'
export const LIBVIRT_HEADER_BYTES = 92
const MAGIC_BYTES = 16
export const LIBVIRT_VERSION = 2
/** The XML of a domain has some KiB. */
export const MOST_LIBVIRT_DATA_BYTES = 16 * 2 ** 20

export const libvirtFormats = ['raw', 'gzip', 'bzip2', 'xz', 'lzop', 'zstd', 'sparse'] as const
export type LibvirtFormat = (typeof libvirtFormats)[number]

/** What libvirt has noted about a VM. */
export interface LibvirtImage {
  readonly version: number
  readonly format: LibvirtFormat
  /** Whether the guest ran when it was saved. */
  readonly wasRunning: boolean
  /** Name and UUID of the domain, if its XML has them. */
  readonly name: string | undefined
  readonly uuid: string | undefined
  readonly xml: string
  /** XML with the CPU that was really used; undefined if there is none. */
  readonly cookie: string | undefined
  /** Offset of the payload in the file. */
  readonly payloadOffset: number
}

/** {@link LibvirtImage} without its XML. */
export type LibvirtSummary = Omit<LibvirtImage, 'xml' | 'cookie'>

export function summaryOf(image: LibvirtImage): LibvirtSummary {
  const { version, format, wasRunning, name, uuid, payloadOffset } = image
  return { version, format, wasRunning, name, uuid, payloadOffset }
}

/** @param cursor - at the magic @throws SavedFileError */
export async function readLibvirtImage(cursor: Cursor): Promise<LibvirtImage> {
  const start = cursor.offset
  await cursor.need(LIBVIRT_HEADER_BYTES, "the header of libvirt's image")
  const { buffer, byteOffset } = cursor.bytes
  const view = new DataView(
    buffer,
    byteOffset + cursor.at + MAGIC_BYTES,
    LIBVIRT_HEADER_BYTES - MAGIC_BYTES,
  )
  const isLittle = view.getUint32(0, true) <= LIBVIRT_VERSION
  const version = view.getUint32(0, isLittle)
  if (version === 0 || version > LIBVIRT_VERSION) {
    cursor.refuse('damaged', `libvirt's image has version ${version}, not 1 or 2`, start + 16)
  }
  const [dataBytes, running, format, cookieOffset] = [4, 8, 12, 16].map((at) =>
    view.getUint32(at, isLittle),
  ) as [number, number, number, number]
  const known = libvirtFormats[format]
  if (known === undefined) {
    cursor.refuse('refused', `libvirt's image has the unknown format ${format}`, start + 28)
  }
  if (running > 1) {
    cursor.refuse('damaged', `libvirt's image: was_running is ${running}, not 0 or 1`, start + 24)
  }
  if (dataBytes === 0 || dataBytes > MOST_LIBVIRT_DATA_BYTES || cookieOffset >= dataBytes) {
    const what = `${dataBytes} bytes of XML with the cookie at ${cookieOffset}`
    cursor.refuse('damaged', `libvirt's image: ${what}`, start + 20)
  }
  cursor.seek(start + LIBVIRT_HEADER_BYTES)
  const data = await cursor.take(dataBytes, 'the XML of the domain')
  const xml = textAt(data, 0)
  return {
    version,
    format: known,
    wasRunning: running === 1,
    name: elementOf(xml, 'name'),
    uuid: elementOf(xml, 'uuid'),
    xml,
    cookie: cookieOffset === 0 ? undefined : textAt(data, cookieOffset),
    payloadOffset: cursor.offset,
  }
}

/** The text up to a byte 0. */
function textAt(data: Uint8Array, at: number): string {
  const end = data.indexOf(0, at)
  return new TextDecoder().decode(data.subarray(at, end === -1 ? data.length : end))
}

/** The text of the first such element: libvirt writes name and UUID of the domain first. */
function elementOf(xml: string, element: string): string | undefined {
  const open = `<${element}>`
  const start = xml.indexOf(open)
  const end = xml.indexOf(`</${element}>`, start)
  if (start === -1 || end === -1) return undefined
  return xml
    .slice(start + open.length, end)
    .replaceAll('&lt;', '<')
    .replaceAll('&gt;', '>')
    .replaceAll('&quot;', '"')
    .replaceAll('&apos;', "'")
    .replaceAll('&amp;', '&')
}

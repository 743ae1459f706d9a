/** Small saved VMs, for tests and fuzzing that change every byte of them. */
import * as stream from '../../src/stream/index.js'
import * as short from '../stream/short-stream.js'

const MAPPED_ID = 1

/** A page that is filled with one byte. */
export function filled(byte: number): Uint8Array {
  return new Uint8Array(4096).fill(byte)
}

export interface StreamParts {
  /** Written before the START of `ram`. */
  readonly before?: (out: stream.Writer) => void
  /** Written after the block list. */
  readonly sections: (out: stream.Writer) => void
  readonly devices?: Uint8Array
  readonly description?: string | null
  /** In pages; the block is called `m`. */
  readonly pages?: number
  readonly capabilities?: readonly string[]
}

/** A plain stream with one block, in the order of QEMU. */
export function streamOf(parts: StreamParts): Uint8Array {
  const { before, sections, devices = short.devices(), description = '{"a": [1]}' } = parts
  const { pages = 8, capabilities } = parts
  return stream.encode((out) => {
    stream.encodeFileHeader(out)
    const subsections = capabilities && [
      { name: 'configuration/capabilities', capabilities } as const,
    ]
    stream.encodeConfiguration(out, 'pc', subsections)
    before?.(out)
    stream.encodeSectionStart(out, { id: short.RAM_ID, idstr: 'ram', instanceId: 0, version: 4 })
    stream.encodeRamBlockList(out, [{ name: 'm', usedLengthBytes: pages * 4096 }])
    short.closeSection(out)
    sections(out)
    out.bytes(devices)
    stream.encodeEndOfStream(out)
    if (description !== null) stream.encodeVmDescription(out, description)
  })
}

/** A PART or END of `ram`. Each page is [number, byte]; undefined: a zero page. */
export function ramSection(
  out: stream.Writer,
  kind: 'part' | 'end',
  pages: readonly (readonly [page: number, byte: number | undefined])[],
): void {
  if (kind === 'part') stream.encodeSectionPart(out, short.RAM_ID)
  else stream.encodeSectionEnd(out, short.RAM_ID)
  for (const [index, [page, byte]] of pages.entries()) {
    const block = index === 0 ? 'm' : undefined
    if (byte === undefined) stream.encodeRamZero(out, block, page * 4096)
    else stream.encodeRamPage(out, block, page * 4096, filled(byte))
  }
  short.closeSection(out)
}

export interface MappedParts {
  /** Where the stream begins in the file. */
  readonly begin?: number
  /** By page: its byte, or undefined if its bit is clear. */
  readonly pages?: readonly (number | undefined)[]
  /** What the file has in pages whose bit is clear. */
  readonly stale?: number
  readonly hasEnd?: boolean
}

/** A mapped-ram file with one block; its pages begin at the next 1 KiB, to be small. */
export function mappedRam(parts: MappedParts = {}): Uint8Array {
  const { begin = 0, pages = [0x11, undefined, 0x33], stale = 0xee, hasEnd = true } = parts
  const head = stream.encode((out) => {
    out.bytes(new Uint8Array(begin))
    stream.encodeFileHeader(out)
    stream.encodeConfiguration(out, 'pc', [
      { name: 'configuration/capabilities', capabilities: ['mapped-ram'] },
    ])
    stream.encodeSectionStart(out, { id: MAPPED_ID, idstr: 'ram', instanceId: 0, version: 4 })
    out.u64(pages.length * 4096 + 4)
    out.str8('m').u64(pages.length * 4096)
    const bitmapOffset = out.length + 28
    const bitmapBytes = Math.ceil(pages.length / 64) * 8
    const pagesOffset = Math.ceil((bitmapOffset + bitmapBytes) / 1024) * 1024
    out.u32(1).u64(4096).u64(bitmapOffset).u64(pagesOffset)
    const bitmap = new Uint8Array(bitmapBytes)
    pages.forEach((byte, page) => {
      if (byte !== undefined) bitmap[page >> 3] = (bitmap[page >> 3] ?? 0) | (1 << (page & 7))
    })
    out.bytes(bitmap)
    out.bytes(new Uint8Array(pagesOffset - out.length))
  })
  return Buffer.concat([
    head,
    ...pages.map((byte) => filled(byte ?? stale)),
    stream.encode((out) => {
      close(out)
      stream.encodeSectionPart(out, MAPPED_ID)
      close(out)
      if (hasEnd) {
        stream.encodeSwitchoverStart(out)
        stream.encodeSectionEnd(out, MAPPED_ID)
        close(out)
      }
      out.bytes(short.devices())
      stream.encodeEndOfStream(out)
      stream.encodeVmDescription(out, '{"a": [1]}')
    }),
  ])
}

function close(out: stream.Writer): void {
  stream.encodeRamEndOfSection(out)
  stream.encodeFooter(out, MAPPED_ID)
}

export interface LibvirtParts {
  readonly magic?: string
  readonly isLittle?: boolean
  readonly version?: number
  readonly wasRunning?: number
  readonly format?: number
  readonly xml?: string
}

/** libvirt's header; `payload` is told where it begins. */
export function libvirtImage(
  payload: (begin: number) => Uint8Array,
  parts: LibvirtParts = {},
): Uint8Array {
  const { magic = 'LibvirtQemudSave', isLittle = true, version = 2, wasRunning = 1 } = parts
  const { format = 0, xml = '<domain><name>a&amp;b</name><uuid>u-1</uuid></domain>' } = parts
  const cookie = '<cookie/>'
  const data = Buffer.from(`${xml}\0${cookie}\0\0\0\0\0`)
  const head = Buffer.alloc(92)
  head.write(magic)
  const values = [version, data.length, wasRunning, format, Buffer.byteLength(xml) + 1]
  for (const [index, value] of values.entries()) {
    if (isLittle) head.writeUInt32LE(value, 16 + index * 4)
    else head.writeUInt32BE(value, 16 + index * 4)
  }
  return Buffer.concat([head, data, payload(92 + data.length)])
}

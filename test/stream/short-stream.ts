/**
 * Small whole streams with each kind of element, for tests that cut or break them at every byte.
 */
import * as stream from '../../src/stream/index.js'

export const RAM_ID = 2
export const blocks: readonly stream.RamBlockInfo[] = [
  { name: 'm', usedLengthBytes: 0x400000, pageSizeBytes: 0x200000 },
  { name: 'rom', usedLengthBytes: 0x2000 },
]

/** A page in which each byte differs from its neighbours. */
export const page = Uint8Array.from({ length: 4096 }, (_, i) => (i * 7 + 1) % 256)

/** Two devices; the first one's body looks like an EOF with a description. */
export function devices(): Uint8Array<ArrayBuffer> {
  const sections = new stream.DeviceSectionWriter(5)
  sections.add({ idstr: '0000:00:01.3/trap', instanceId: 0, version: 3 }, (out) => {
    out.bytes(Uint8Array.of(0x7e, 0, 0, 0, 5, 0, 6, 0, 0, 0, 3, 0x7b, 0x20, 0x20, 0, 1, 2))
  })
  sections.add({ idstr: 'globalstate', instanceId: 0, version: 1 }, (out) => {
    out.u32(8).bytes(Buffer.from('running')).u8(0)
  })
  return sections.take()
}

/** From the file header to the footer of `ram` START. */
export function prologue(out: stream.Writer): void {
  stream.encodeFileHeader(out)
  const uuid = Uint8Array.from({ length: 16 }, (_, i) => i)
  stream.encodeConfiguration(out, 'pc-i440fx-7.2', [
    { name: 'configuration/capabilities', capabilities: ['x-some', 'events'] },
    { name: 'configuration/uuid', uuid },
  ])
  stream.encodeOpenReturnPath(out)
  stream.encodePing(out, 1)
  stream.encodeAdvise(out, 0x201000, 0x1000)
  stream.encodeSectionStart(out, { id: RAM_ID, idstr: 'ram', instanceId: 0, version: 4 })
  stream.encodeRamBlockList(out, blocks)
  closeSection(out)
}

export function closeSection(out: stream.Writer): void {
  stream.encodeRamEndOfSection(out)
  stream.encodeFooter(out, RAM_ID)
}

/** A PART with a zero page, and `pageCount` other pages. */
export function part(out: stream.Writer, pageCount: number): void {
  stream.encodeSectionPart(out, RAM_ID)
  stream.encodeRamZero(out, 'rom', 0x1000)
  for (let i = 0; i < pageCount; i += 1) {
    stream.encodeRamPage(out, i === 0 ? 'm' : undefined, i * 4096, page)
  }
  closeSection(out)
}

export function precopyStream(
  pageCount = 0,
  description: string | null = '{"a": [1]}',
): Uint8Array {
  return stream.encode((out) => {
    prologue(out)
    part(out, pageCount)
    stream.encodeSwitchoverStart(out)
    stream.encodeSectionEnd(out, RAM_ID)
    closeSection(out)
    out.bytes(devices())
    stream.encodeEndOfStream(out)
    if (description !== null) stream.encodeVmDescription(out, description)
  })
}

export function postcopyStream(pageCount = 0): Uint8Array {
  return stream.encode((out) => {
    prologue(out)
    part(out, 0)
    stream.encodeRamDiscard(out, 'm', [0, 0x200000])
    stream.encodeRamDiscard(out, 'rom', [0, 0x1000, 0x1000, 0x1000])
    stream.encodePing(out, 2)
    stream.encodePackaged(out, stream.encodePackage(devices()))
    stream.encodePing(out, 4)
    part(out, pageCount)
    stream.encodeSectionEnd(out, RAM_ID)
    closeSection(out)
    stream.encodeEndOfStream(out)
  })
}

export function recoveredStream(): Uint8Array {
  return stream.encode((out) => {
    for (const { name } of blocks) stream.encodeRecvBitmapRequest(out, name)
    stream.encodeResume(out)
    part(out, 0)
    stream.encodeSectionEnd(out, RAM_ID)
    closeSection(out)
    stream.encodeEndOfStream(out)
  })
}

/** The messages of a destination in a migration that is recovered. */
export function returnPathMessages(): Uint8Array[] {
  const messages: ((out: stream.Writer) => void)[] = [
    (out) => {
      stream.encodePong(out, 1)
    },
    stream.encodeSwitchoverAck,
    (out) => {
      stream.encodePageRequest(out, 'm', 0x200000, 0x200000)
    },
    (out) => {
      stream.encodePageRequest(out, undefined, 0, 0x200000)
    },
    (out) => {
      stream.encodePageRequest(out, 'rom', 0x1000, 0x1000)
    },
    (out) => {
      stream.encodeRecvBitmap(out, 'm', new Uint8Array(128).fill(0x5a))
    },
    (out) => {
      stream.encodeRecvBitmap(out, 'rom', Uint8Array.of(2))
    },
    stream.encodeResumeAck,
    (out) => {
      stream.encodeShut(out, 0)
    },
  ]
  return messages.map(stream.encode)
}

/** The records of a preempt channel. */
export function preemptRecords(): Uint8Array[] {
  const records: ((out: stream.Writer) => void)[] = [
    (out) => {
      stream.encodeRamZero(out, 'rom', 0)
    },
    (out) => {
      stream.encodeRamPage(out, 'm', 0x1000, page)
    },
    (out) => {
      stream.encodeRamZero(out, undefined, 0x2000)
    },
    stream.encodeRamEndOfSection,
  ]
  return records.map(stream.encode)
}

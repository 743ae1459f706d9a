/** Random valid streams, with everything that QEMU's wire format allows. */
import fc from 'fast-check'
import * as stream from '../../src/stream/index.js'

export interface ArbitraryStream {
  readonly bytes: Uint8Array
  /** Page sizes in the block list. */
  readonly pageSizes: Map<string, number>
}

const PAGE = 4096
const name = fc
  .array(fc.integer({ min: 1, max: 255 }), { minLength: 1, maxLength: 12 })
  .map((bytes) => stream.decodeName(Uint8Array.from(bytes)))

const subsections = fc.uniqueArray(
  fc.oneof(
    fc.constant({ name: 'configuration/target-page-bits', bits: 12 } as const),
    fc.array(name, { maxLength: 3 }).map((capabilities) => {
      return { name: 'configuration/capabilities', capabilities } as const
    }),
    fc.uint8Array({ minLength: 16, maxLength: 16 }).map((uuid) => {
      return { name: 'configuration/uuid', uuid } as const
    }),
  ),
  { selector: (one) => one.name, maxLength: 3 },
)

const blocks = fc.uniqueArray(
  fc.record({ name, pages: fc.integer({ min: 1, max: 2 ** 40 }), isHuge: fc.boolean() }),
  { selector: (block) => block.name, minLength: 1, maxLength: 5 },
)

/** A record. Its block and page are numbers, reduced modulo the existing ones. */
const record = fc.record({
  block: fc.nat(4),
  page: fc.nat({ max: Number.MAX_SAFE_INTEGER }),
  fill: fc.oneof({ weight: 3, arbitrary: fc.constant(0) }, fc.integer({ min: 1, max: 255 })),
  isNamed: fc.boolean(),
})
const records = fc.array(record, { maxLength: 6 })
const ping = fc.integer({ min: 0, max: 0xffffffff })
const devices = fc.array(fc.record({ idstr: name, body: fc.uint8Array({ maxLength: 40 }) }), {
  minLength: 1,
  maxLength: 3,
})

export const anyStream: fc.Arbitrary<ArbitraryStream> = fc
  .record({
    machineType: name,
    subsections,
    blocks,
    ramId: fc.integer({ min: 0, max: 0xffffffff }),
    prologue: fc.boolean(),
    parts: fc.array(records, { maxLength: 3 }),
    isPostcopy: fc.boolean(),
    discards: fc.array(fc.record({ block: fc.nat(4), ranges: fc.integer({ min: 1, max: 30 }) }), {
      maxLength: 3,
    }),
    postcopyParts: fc.array(records, { maxLength: 3 }),
    last: records,
    devices,
    description: fc.option(fc.dictionary(fc.string(), fc.string(), { maxKeys: 3 })),
    ping,
  })
  .map(build)

interface Shape {
  machineType: string
  subsections: readonly stream.ConfigurationSubsection[]
  blocks: readonly { name: string; pages: number; isHuge: boolean }[]
  ramId: number
  prologue: boolean
  parts: readonly (readonly Record[])[]
  isPostcopy: boolean
  discards: readonly { block: number; ranges: number }[]
  postcopyParts: readonly (readonly Record[])[]
  last: readonly Record[]
  devices: readonly { idstr: string; body: Uint8Array }[]
  description: object | null
  ping: number
}

interface Record {
  block: number
  page: number
  fill: number
  isNamed: boolean
}

function build(shape: Shape): ArbitraryStream {
  const out = new stream.Writer()
  const list = shape.blocks.map(({ name, pages, isHuge }): stream.RamBlockInfo => {
    const usedLengthBytes = Math.ceil(pages / 2 ** 10) * PAGE
    const isAnnounced = isHuge && shape.prologue
    return isAnnounced
      ? { name, usedLengthBytes, pageSizeBytes: 0x200000 }
      : { name, usedLengthBytes }
  })
  const blockAt = (index: number) => {
    const block = list[index % list.length]
    if (block === undefined) throw new Error('no block')
    return block
  }
  let lastName: string | undefined
  const section = (items: readonly Record[]) => {
    for (const { block: index, page, fill, isNamed } of items) {
      const block = blockAt(index)
      const offset = (page % (block.usedLengthBytes / PAGE)) * PAGE
      const label = isNamed || lastName !== block.name ? block.name : undefined
      lastName = block.name
      if (fill === 0) stream.encodeRamZero(out, label, offset)
      else stream.encodeRamPage(out, label, offset, new Uint8Array(PAGE).fill(fill))
    }
    stream.encodeRamEndOfSection(out)
    stream.encodeFooter(out, shape.ramId)
  }
  const parts = (all: readonly (readonly Record[])[]) => {
    for (const items of all) {
      stream.encodeSectionPart(out, shape.ramId)
      section(items)
    }
  }
  const sections = new stream.DeviceSectionWriter(1)
  for (const { idstr, body } of shape.devices) {
    sections.add({ idstr, instanceId: 0, version: 1 }, (body_) => {
      body_.bytes(body)
    })
  }

  stream.encodeFileHeader(out)
  stream.encodeConfiguration(out, shape.machineType, shape.subsections)
  if (shape.prologue) {
    stream.encodeOpenReturnPath(out)
    stream.encodePing(out, shape.ping)
    stream.encodeAdvise(out, 0x201000, PAGE)
  }
  const ram = { id: shape.ramId, idstr: 'ram', instanceId: 0, version: 4 }
  stream.encodeSectionStart(out, ram)
  stream.encodeRamBlockList(out, list)
  section([])
  parts(shape.parts)
  if (shape.isPostcopy) {
    for (const { block: index, ranges } of shape.discards) {
      const { name, usedLengthBytes } = blockAt(index)
      const pairs = Array.from({ length: ranges }, () => [0, usedLengthBytes]).flat()
      stream.encodeRamDiscard(out, name, pairs)
    }
    stream.encodePackaged(out, stream.encodePackage(sections.take()))
    parts(shape.postcopyParts)
  } else stream.encodeSwitchoverStart(out)
  stream.encodeSectionEnd(out, shape.ramId)
  section(shape.last)
  if (!shape.isPostcopy) out.bytes(sections.take())
  stream.encodeEndOfStream(out)
  if (!shape.isPostcopy && shape.description !== null) {
    stream.encodeVmDescription(out, JSON.stringify(shape.description))
  }
  const pageSizes = new Map<string, number>()
  for (const { name, pageSizeBytes } of list) {
    if (pageSizeBytes !== undefined) pageSizes.set(name, pageSizeBytes)
  }
  return { bytes: out.take(), pageSizes }
}

import { deepStrictEqual, ok, strictEqual } from 'node:assert/strict'
import * as stream from '../../src/stream/index.js'
import { digest, type Event, recordReturnPath, recordStream } from './events.js'
import { golden } from './golden.js'
import { decodeNaively } from './naive-decoder.js'

const blocks = [
  { name: 'pc.ram', usedLengthBytes: 0x1000000 },
  { name: '/rom@etc/acpi/tables', usedLengthBytes: 0x20000 },
  { name: 'pc.rom', usedLengthBytes: 0x20000 },
  { name: 'pc.bios', usedLengthBytes: 0x10000 },
  { name: '/rom@etc/table-loader', usedLengthBytes: 0x1000 },
  { name: '/rom@etc/acpi/rsdp', usedLengthBytes: 0x1000 },
]
/** Pages of all blocks together. */
const PAGE_COUNT = 4178

function decode(bytes: Uint8Array, options: stream.StreamDecoderOptions = {}): Event[] {
  const events: Event[] = []
  const decoder = new stream.StreamDecoder(recordStream(events), options)
  strictEqual(decoder.write(bytes), bytes.length)
  decoder.end()
  return events
}

function count(events: Event[], name: string): number {
  return events.filter((event) => event[0] === name).length
}

/** All events except the pages. */
function outline(events: Event[]): Event[] {
  return events.filter(([name]) => name !== 'ramPage' && name !== 'ramZero')
}

describe('a stream of QEMU 7.2', () => {
  it('saved as precopy: blocks, pages, device tail and description', () => {
    const bytes = golden('precopy')
    const events = decode(bytes)
    const part: Event[] = [['ramEndOfSection'], ['footer', 2]]
    deepStrictEqual(outline(events).slice(0, -3), [
      ['fileHeader', 3],
      ['configuration', 'pc-i440fx-7.2', digest(bytes, 8, 26), []],
      ['sectionStart', { id: 2, idstr: 'ram', instanceId: 0, version: 4 }],
      ['ramBlocks', blocks],
      ...part,
      ['sectionPart', 2],
      ...part,
      ['sectionEnd', 2],
      ...part,
    ])
    strictEqual(count(events, 'ramPage') + count(events, 'ramZero'), PAGE_COUNT)
    const [tail, end, description] = events.slice(-3)
    // The test below walks the sections by the wire format and proves that
    // this is their length.
    ok(String(tail?.[1]).startsWith('12857 bytes'))
    deepStrictEqual(end, ['endOfStream'])
    const { page_size } = JSON.parse(String(description?.[1])) as { page_size: number }
    strictEqual(page_size, 4096)
    deepStrictEqual(events, decodeNaively(bytes))
  })

  it('contains the pages that its firmware wrote', () => {
    const pages = new Map<string, string>()
    for (const [name, block, offset, content] of decode(golden('precopy'))) {
      if (name === 'ramPage') pages.set(`${String(block)}@${String(offset)}`, String(content))
    }
    for (let n = 0; n < 16; n += 1) {
      const expected = new Uint8Array(new Uint16Array(2048).fill(n + 1).buffer)
      strictEqual(pages.get(`pc.ram@${0x10000 + n * 4096}`), digest(expected), `page ${n}`)
    }
  })

  it('has a device tail that matches its description', () => {
    let tail: Uint8Array = new Uint8Array()
    let json = ''
    const decoder = new stream.StreamDecoder({
      deviceTail: (bytes) => {
        tail = bytes
      },
      vmDescription: (text) => {
        json = text
      },
    })
    decoder.write(golden('precopy'))
    const { devices } = JSON.parse(json) as { devices: Described[] }
    const names: string[] = []
    stream.decodeDeviceSections(tail, ({ idstr, instanceId }, body) => {
      const device = devices[names.length]
      deepStrictEqual([device?.name, device?.instance_id], [idstr, instanceId])
      names.push(idstr)
      body.bytes(device === undefined ? 0 : lengthOf(device))
    })
    strictEqual(names.length, devices.length)
    strictEqual(names[0], 'timer')
    strictEqual(names.at(-1), 'globalstate')
  })

  it('in postcopy: prologue, discards, package, pages; cut by a pause', () => {
    const events: Event[] = []
    let blob: Uint8Array = new Uint8Array()
    const decoder = new stream.StreamDecoder({
      ...recordStream(events),
      packaged: (bytes) => {
        blob = bytes
      },
    })
    decoder.write(golden('postcopy-source'))
    strictEqual(decoder.phase, 'postcopy')
    deepStrictEqual(outline(events).slice(2), [
      ['openReturnPath'],
      ['ping', 1],
      ['advise', 0x1000, 0x1000],
      ['sectionStart', { id: 2, idstr: 'ram', instanceId: 0, version: 4 }],
      ['ramBlocks', blocks],
      ['ramEndOfSection'],
      ['footer', 2],
      ...blocks.map(({ name, usedLengthBytes }) => ['ramDiscard', name, [0, usedLengthBytes]]),
      ['ping', 2],
      ['ping', 4],
      ...outline(events).slice(17),
    ])
    const { devices, pings } = stream.findPackagePings(blob)
    deepStrictEqual(pings, [3])
    strictEqual(devices.length, blob.length - 19)
    const asked = events.filter(
      ([name, block, offset]) =>
        name === 'ramPage' && block === 'pc.ram' && (offset === 0x12000 || offset === 0x15000),
    )
    deepStrictEqual(
      asked.map(([, , offset]) => offset),
      [0x12000, 0x15000],
    )
  })

  it('recovered: requests bitmaps, resumes, continues without a START', () => {
    const resume = { ramSectionId: 2, blocks }
    const events = decode(golden('recovered-source'), { resume })
    const names = outline(events)
    deepStrictEqual(names.slice(0, blocks.length + 1), [
      ...blocks.map(({ name }) => ['recvBitmap', name]),
      ['resume'],
    ])
    deepStrictEqual(names.slice(-4), [
      ['sectionEnd', 2],
      ['ramEndOfSection'],
      ['footer', 2],
      ['endOfStream'],
    ])
    strictEqual(count(events, 'ramPage') + count(events, 'ramZero') > 0, true)
  })

  it('with preempt: each discarded page is sent once, on one of two channels', () => {
    const urgent: Event[] = []
    const channel = new stream.PreemptDecoder(recordStream(urgent), blocks)
    channel.write(golden('preempt-channel'))
    strictEqual(channel.finished, true)
    deepStrictEqual(
      urgent.map(([name, block, offset]) => [name, block, offset]),
      [
        ['ramZero', 'pc.ram', 0xf00000],
        ['ramPage', 'pc.bios', 0xf000],
        ['ramEndOfSection', undefined, undefined],
      ],
    )

    const events = decode(golden('preempt-main'))
    const discarded = new Set<string>()
    for (const [name, block, ranges] of events) {
      if (name !== 'ramDiscard') continue
      const [start = 0, length = 0] = ranges as number[]
      for (let at = start; at < start + length; at += 4096) discarded.add(`${String(block)}@${at}`)
    }
    const switchover = events.findIndex(([name]) => name === 'packaged')
    const precopied = events.slice(0, switchover)
    strictEqual(
      discarded.size,
      PAGE_COUNT - count(precopied, 'ramPage') - count(precopied, 'ramZero'),
    )
    for (const [name, block, offset] of [...events.slice(switchover), ...urgent]) {
      if (name !== 'ramPage' && name !== 'ramZero') continue
      const page = `${String(block)}@${String(offset)}`
      strictEqual(discarded.delete(page), true, `${page} was not owed`)
    }
    strictEqual(discarded.size, 0)
  })

  it('is answered by a 7.2 destination with pongs and page requests', () => {
    const events = decodeReturnPath('destination-return-path')
    // Two threads answer: PONG 4 may precede or follow PONG 3.
    const pongs = events.filter(([name]) => name === 'pong').map(([, value]) => value)
    deepStrictEqual(new Set(pongs), new Set([1, 2, 3, 4, 0x42]))
    const requests = events.filter(([name]) => name !== 'pong')
    deepStrictEqual(requests, [
      ['requestPages', 'pc.ram', 0x12000, 0x1000],
      ['requestPages', 'pc.ram', 0x15000, 0x1000],
      ['requestPages', 'pc.bios', 0xf000, 0x1000],
      ['requestPages', 'pc.ram', 0x16000, 0x1000],
    ])
  })

  it('is answered by a recovered 7.2 destination with bitmaps, RESUME_ACK and SHUT', () => {
    const events = decodeReturnPath('recovered-return-path')
    const named = events.map(([name, block]) => (name === 'recvBitmap' ? block : name))
    deepStrictEqual(named, [...blocks.map(({ name }) => name), 'resumeAck', 'shut'])
    const half = new Uint8Array(8)
    half.set([0xff, 0xff])
    deepStrictEqual(events[1], ['recvBitmap', '/rom@etc/acpi/tables', digest(half)])
  })
})

function decodeReturnPath(name: string): Event[] {
  const events: Event[] = []
  const decoder = new stream.ReturnPathDecoder(recordReturnPath(events), blocks)
  const bytes = golden(name)
  strictEqual(decoder.write(bytes), bytes.length)
  decoder.end()
  return events
}

interface Described {
  readonly name: string
  readonly vmsd_name?: string
  readonly instance_id?: number
  readonly fields?: readonly { size: number; array_len?: number }[]
  readonly subsections?: readonly Described[]
}

/** The length that a description gives: fields, and subsections with headers. */
function lengthOf({ fields, subsections }: Described): number {
  let length = 0
  for (const { size, array_len } of fields ?? []) length += size * (array_len ?? 1)
  for (const one of subsections ?? []) length += 6 + (one.vmsd_name ?? '').length + lengthOf(one)
  return length
}

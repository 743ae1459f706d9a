import assert from 'node:assert/strict'
import { defaultCapabilities } from '../../src/migration/options.js'
import * as elements from '../../src/source/elements.js'
import * as stream from '../../src/stream/index.js'
import { PAGE, tracked } from './support.js'

const data = Uint8Array.of(1, 2, 3)
const cpu = { idstr: 'cpu', instanceId: 4, version: 5, data }

/** The elements of a whole stream, in order. */
function eventsOf(bytes: Uint8Array): string[] {
  const events: string[] = []
  const add = (text: string): void => void events.push(text)
  const decoder = new stream.StreamDecoder({
    configuration: (machineType, raw) => add(`configuration ${machineType} of ${raw.length}`),
    openReturnPath: () => add('open return path'),
    ping: (value) => add(`ping ${value}`),
    advise: (summary, target) => add(`advise ${summary ?? 'none'}, ${target ?? 'none'}`),
    sectionStart: ({ id, idstr, version }) => add(`start ${idstr} ${id} ${version}`),
    ramBlocks: (blocks) => {
      for (const { name, usedLengthBytes, pageSizeBytes = 0 } of blocks) {
        add(`block ${name} ${usedLengthBytes} ${pageSizeBytes}`)
      }
    },
    footer: (id) => add(`footer ${id}`),
  })
  assert.equal(decoder.write(bytes), bytes.length)
  return events
}

describe('the prologue', () => {
  const blocks = () => [tracked(8).block, tracked(8, 4, 'rom').block]
  const prologue = (
    capabilities: Partial<typeof defaultCapabilities>,
    configuration?: Uint8Array,
  ): string[] =>
    eventsOf(
      elements.encodePrologue({
        machineType: 'pc',
        configuration,
        ramSectionId: 7,
        blocks: blocks(),
        capabilities: { ...defaultCapabilities, ...capabilities },
      }),
    )
  const configuration = stream.encode((out) => stream.encodeConfiguration(out, 'pc'))
  const begin = [`configuration pc of ${configuration.length}`]
  const answered = ['open return path', `ping ${stream.PingValue.start}`]
  const section = (pageSizeBytes: number): string[] => [
    'start ram 7 4',
    `block ram ${8 * PAGE} 0`,
    `block rom ${8 * PAGE} ${pageSizeBytes}`,
    'footer 7',
  ]

  it('of a precopy has blocks without page sizes, and asks for no answer', () => {
    assert.deepEqual(prologue({}), [...begin, ...section(0)])
  })

  it('asks for answers if there is a return path', () => {
    assert.deepEqual(prologue({ 'return-path': true }), [...begin, ...answered, ...section(0)])
  })

  it('of a postcopy advises, and has the page sizes that differ from the target page', () => {
    assert.deepEqual(prologue({ 'postcopy-ram': true }), [
      ...begin,
      ...answered,
      `advise ${5 * PAGE}, ${PAGE}`,
      ...section(4 * PAGE),
    ])
  })

  it('sends a given configuration as it is', () => {
    const other = stream.encode((out) => stream.encodeConfiguration(out, 'q35'))
    assert.equal(prologue({}, other)[0], `configuration q35 of ${other.length}`)
  })
})

describe('sections of devices that are loaded before RAM', () => {
  it('are sent after the advice, right before RAM', () => {
    const early = stream.encode((out) => {
      stream.encodeSectionFull(out, { id: 9, idstr: 'early', instanceId: 0, version: 1 })
      stream.encodeFooter(out, 9)
    })
    const options = {
      machineType: 'pc',
      configuration: undefined,
      ramSectionId: 7,
      blocks: [tracked(1).block],
      capabilities: { ...defaultCapabilities, 'postcopy-ram': true },
    }
    const plain = Buffer.from(elements.encodePrologue(options))
    const found = Buffer.from(elements.encodePrologue({ ...options, earlySections: early }))
    const at = plain.indexOf(Buffer.from('\x01\0\0\0\x07\x03ram', 'latin1'))
    const expected = Buffer.concat([plain.subarray(0, at), early, plain.subarray(at)])
    assert.deepEqual(found, expected)
  })
})

describe('the elements that hand the guest over', () => {
  it('are a package whose last bytes are RUN', () => {
    const { body, last } = elements.encodeSwitch([cpu], 7)
    assert.deepEqual(last, stream.encode(stream.encodeRun))
    const prologue = elements.encodePrologue({
      machineType: 'pc',
      configuration: undefined,
      ramSectionId: 7,
      blocks: [tracked(1).block],
      capabilities: { ...defaultCapabilities, 'postcopy-ram': true },
    })
    let blob = new Uint8Array()
    const pings: number[] = []
    const decoder = new stream.StreamDecoder({
      ping: (value) => void pings.push(value),
      packaged: (bytes) => {
        blob = bytes
      },
    })
    const all = Buffer.concat([prologue, body, last])
    assert.equal(decoder.write(all), all.length)
    assert.deepEqual(pings, [stream.PingValue.start, stream.PingValue.beforePackage])
    const { devices } = stream.findPackagePings(blob)
    assert.deepEqual(Buffer.from(devices), Buffer.from(elements.encodeDevices([cpu], 7)))
  })

  it('of a precopy end with EOF and the sizes of the devices', () => {
    const { body, last } = elements.encodePrecopyEnd([cpu], 7)
    assert.deepEqual(body, elements.encodeDevices([cpu], 7))
    assert.equal(last[0], stream.ElementType.endOfStream)
    const text = Buffer.from(last).toString('latin1')
    assert.match(text, /"name":"cpu","instance_id":4,.*"version":5,.*"size":3/)
  })

  it('of a precopy describe no opaque devices', () => {
    const { last } = elements.encodePrecopyEnd(Uint8Array.of(9), 7)
    assert.deepEqual(last, stream.encode(stream.encodeEndOfStream))
  })
})

describe('encodeDevices', () => {
  it('gives each device a section id after that of ram', () => {
    const found: string[] = []
    stream.decodeDeviceSections(
      elements.encodeDevices([cpu, { ...cpu, idstr: 'rtc' }], 7),
      ({ idstr, id, instanceId, version }, body) => {
        found.push(`${idstr} ${id} ${instanceId} ${version} ${[...body.bytes(3)].join()}`)
      },
    )
    assert.deepEqual(found, ['cpu 8 4 5 1,2,3', 'rtc 9 4 5 1,2,3'])
  })

  it('leaves opaque sections as they are', () => {
    assert.equal(elements.encodeDevices(data, 7), data)
  })
})

describe('encodeDiscards', () => {
  it('names every run of pages, in bytes, and no block without one', () => {
    const [ram, rom] = [tracked(200), tracked(8, 1, 'rom')]
    rom.dirty.clearRange(0, 8)
    ram.dirty.clearRange(0, 200)
    const runs = Array.from({ length: 30 }, (_, index) => 2 * index)
    for (const page of runs) ram.dirty.set(page)
    ram.dirty.setRange(198, 200)
    const expected = stream.encode((out) =>
      stream.encodeRamDiscard(out, 'ram', [
        ...runs.flatMap((page) => [page * PAGE, PAGE]),
        ...[198 * PAGE, 2 * PAGE],
      ]),
    )
    assert.deepEqual(elements.encodeDiscards([ram, rom]), expected)
  })
})

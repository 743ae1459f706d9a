import { deepStrictEqual, match, strictEqual, throws } from 'node:assert/strict'
import * as stream from '../../src/stream/index.js'
import { golden } from './golden.js'
import { refuses } from './refuses.js'
import * as short from './short-stream.js'
import { wire } from './wire.js'

const LISTEN = '08 0004 0000'
const PING = '08 0002 0004 00000003'
const RUN = '08 0005 0000'
const DEVICE = '04 00000009 03 "cpu" 00000001 0000000c beef 7e 00000009'
/** The package's offset in its stream. */
const OFFSET = 1000

/** Walks a package of devices with two bytes of state. */
function walk(text: string): string[] {
  const events: string[] = []
  const add = (event: string) => {
    events.push(event)
  }
  const handler: stream.PackageHandler = {
    listen: () => {
      add('listen')
    },
    device: ({ idstr, instanceId, version }, body) => {
      add(`${idstr} ${instanceId} ${version} ${body.u16().toString(16)}`)
    },
    ping: (value) => {
      add(`ping ${value}`)
    },
    run: () => {
      add('run')
    },
  }
  stream.decodePackage(wire(text), handler, OFFSET)
  return events
}

describe('a package', () => {
  it('is decoded in order with knowledge of its devices', () => {
    const text = `${LISTEN} ${DEVICE} ${DEVICE.replaceAll('00000009', '0000000a')} ${PING} ${RUN}`
    deepStrictEqual(walk(text), ['listen', 'cpu 1 12 beef', 'cpu 1 12 beef', 'ping 3', 'run'])
  })

  it('is split from both ends without knowledge of its devices', () => {
    for (const pings of [[], [3], [3, 0x42], [1, 2, 3]]) {
      const cut = stream.findPackagePings(stream.encodePackage(short.devices(), pings))
      deepStrictEqual(cut, { devices: short.devices(), pings })
    }
  })

  it('of a 7.2 source is split into 31 devices and ping 3', () => {
    let cut: stream.PackageCut | undefined
    const decoder = new stream.StreamDecoder({
      packaged: (blob, offset) => {
        cut = stream.findPackagePings(blob, offset)
      },
    })
    decoder.write(golden('postcopy-source'))
    deepStrictEqual(cut?.pings, [3])
    strictEqual(cut.devices[0], stream.ElementType.sectionFull)
    strictEqual(cut.devices.at(-5), stream.SECTION_FOOTER)
  })

  const refusals: [title: string, text: string, code: string, says: RegExp, at: number][] = [
    ['without LISTEN', `${DEVICE} ${RUN}`, 'PACKAGE', /must be LISTEN/, 0],
    ['of no bytes', '', 'PACKAGE', /must be LISTEN/, 0],
    ['with LISTEN twice', `${LISTEN} ${LISTEN} ${RUN}`, 'PACKAGE', /LISTEN is not allowed/, 5],
    ['without RUN', `${LISTEN} ${DEVICE}`, 'PACKAGE', /without RUN/, 5 + 24],
    ['with RUN in the middle', `${LISTEN} ${RUN} ${PING}`, 'PACKAGE', /RUN must be the last/, 10],
    ['with RUN twice', `${LISTEN} ${RUN} ${RUN}`, 'PACKAGE', /RUN must be the last/, 10],
    ['in a package', `${LISTEN} 08 0007 0004 00000001`, 'PACKAGE', /within a package/, 5],
    ['with an EOF', `${LISTEN} 00`, 'PACKAGE', /element 0x0 is not allowed/, 5],
    ['with a PART', `${LISTEN} 02 00000002`, 'PACKAGE', /element 0x2 is not allowed/, 5],
    ['with RESUME', `${LISTEN} 08 0009 0000`, 'PACKAGE', /RESUME is not allowed/, 5],
    ['with an unknown command', `${LISTEN} 08 00ff 0000`, 'PACKAGE', /0xff is not allowed/, 5],
    ['with a long RUN', `${LISTEN} 08 0005 0001 00`, 'COMMAND', /RUN with 1 bytes, not 0/, 5],
    ['cut in a ping', `${LISTEN} 08 0002 0004 0000`, 'TRUNCATED', /4 bytes wanted, 2 left/, 10],
    ['cut in a device', `${LISTEN} 04 00000009 03 "cp"`, 'TRUNCATED', /3 bytes wanted/, 11],
    [
      'with a section id twice',
      `${LISTEN} ${DEVICE} ${DEVICE}`,
      'SECTION',
      /section id 9 of "cpu" is already used/,
      5 + 24,
    ],
    [
      'with another footer',
      `${LISTEN} 04 00000009 03 "cpu" 00000001 0000000c beef 7e 00000008`,
      'FOOTER',
      /device "cpu" \(instance 1, at 1005\): footer of section 8, not 9/,
      5 + 24 - 5,
    ],
    [
      'with a device that is longer than the data that its loader read',
      `${LISTEN} 04 00000009 03 "cpu" 00000001 0000000c beef00 7e 00000009`,
      'FOOTER',
      /device "cpu".*no footer after its data, but byte 0x0/,
      5 + 24 - 5,
    ],
  ]
  for (const [title, text, code, says, at] of refusals) {
    it(`${title} is refused`, () => {
      const error = refuses(() => walk(text), `ERR_STREAM_${code}`)
      match(error.message, says)
      strictEqual(error.streamOffset, OFFSET + at)
    })
  }

  const uncuttable: [title: string, text: string, says: RegExp, at: number][] = [
    ['without LISTEN', `${DEVICE} ${RUN}`, /must be LISTEN/, 0],
    ['without RUN', `${LISTEN} ${DEVICE} ${PING}`, /does not end with RUN/, 5 + 24 + 9 - 5],
    ['of LISTEN alone', LISTEN, /does not end with RUN/, 0],
    ['in a package', `${LISTEN} 08 0007 0004 00000001 ${RUN}`, /within a package/, 5],
    [
      'that does not begin with a device',
      `${LISTEN} 03 ${DEVICE} ${RUN}`,
      /0x3 does not begin a device/,
      5,
    ],
    [
      'that does not end with a device',
      `${LISTEN} ${DEVICE} 00 ${RUN}`,
      /no footer/,
      5 + 24 + 1 - 5,
    ],
  ]
  for (const [title, text, says, at] of uncuttable) {
    it(`${title} is refused without its devices, too`, () => {
      const error = refuses(() => stream.findPackagePings(wire(text), OFFSET), 'ERR_STREAM_PACKAGE')
      match(error.message, says)
      strictEqual(error.streamOffset, OFFSET + at)
    })
  }

  it('is refused with the error of its loader', () => {
    const error = new Error('wrong state')
    const device = () => {
      throw error
    }
    const blob = stream.encodePackage(short.devices())
    throws(() => {
      stream.decodePackage(blob, { device })
    }, error)
  })
})

describe('device sections', () => {
  it('are read one by one', () => {
    const reader = new stream.DeviceSectionReader(short.devices())
    const names: string[] = []
    for (let one = reader.next(); one !== undefined; one = reader.next()) {
      names.push(`${one.header.id} ${one.header.idstr}`)
      one.body.bytes(one.header.idstr === 'globalstate' ? 12 : 17)
    }
    deepStrictEqual(names, ['5 0000:00:01.3/trap', '6 globalstate'])
  })

  it('must not be followed by other data', () => {
    const bytes = new Uint8Array([...wire(DEVICE), 1])
    const load = (_header: stream.SectionHeader, body: stream.Reader) => body.u16()
    const error = refuses(() => {
      stream.decodeDeviceSections(bytes, load, OFFSET)
    }, 'ERR_STREAM_ELEMENT')
    strictEqual(error.streamOffset, OFFSET + bytes.length - 1)
  })

  it('give a loader its fields, and an error with the offset at their end', () => {
    const reader = new stream.Reader(wire('01 0203 04050607 0000000140000000 02 "ab" ff'), OFFSET)
    deepStrictEqual(
      [reader.u8(), reader.u16(), reader.u32(), reader.u64(), reader.str8(), reader.remaining],
      [1, 0x203, 0x4050607, 5 * 2 ** 30, 'ab', 1],
    )
    const error = refuses(() => reader.u32(), 'ERR_STREAM_TRUNCATED')
    strictEqual(error.streamOffset, OFFSET + reader.position)
    throws(() => reader.bytes(-1), RangeError)
  })
})

import { deepStrictEqual, strictEqual } from 'node:assert/strict'
import * as stream from '../../src/stream/index.js'
import * as short from './short-stream.js'
import { wire } from './wire.js'

/** Bodies of a device that look like the end of the stream, but are not. */
const traps: [title: string, body: string][] = [
  ['an EOF and a description without a footer before them', '00 06 00000002 "{}"'],
  ['a description without EOF', '7e00000005 06 00000002 "{}"'],
  ['a description that is too long for its text', '7e00000005 00 06 00000003 "{}"'],
  ['a description that is too short for its text', '7e00000005 00 06 00000003 "{}" 20 20'],
  ['a description that goes beyond the end', '7e00000005 00 06 00ffffff "{}"'],
  ['a description that is almost JSON', '7e00000005 00 06 00000008 "{" 22 "a" 22 ": }" 20'],
  ['a description with a byte 0 in it', '7e00000005 00 06 00000003 "{" 00 "}"'],
  ['a description that is JSON, but no object', '7e00000005 00 06 00000004 "null"'],
  ['a description of no bytes', '7e00000005 00 06 00000000 "{}"'],
  ['a description inside the length of another', '7e00 7e00000005 00 06 00 06 0003 "{}" 7d'],
  ['a row of zeros', '00'.repeat(64)],
  ['a row of footers', '7e'.repeat(64)],
]

interface Tail {
  devices: Uint8Array | undefined
  description: string | undefined
}

function decode(devices: Uint8Array, description: string | undefined, isCut: boolean): Tail {
  const tail: Tail = { devices: undefined, description: undefined }
  const decoder = new stream.StreamDecoder({
    deviceTail: (bytes) => {
      tail.devices = bytes
    },
    vmDescription: (json) => {
      tail.description = json
    },
  })
  const feeder = new stream.StreamFeeder(decoder)
  feeder.push(
    stream.encode((out) => {
      short.prologue(out)
      stream.encodeSectionEnd(out, short.RAM_ID)
      short.closeSection(out)
    }),
  )
  const bytes = stream.encode((out) => {
    out.bytes(devices)
    stream.encodeEndOfStream(out)
    if (description !== undefined) stream.encodeVmDescription(out, description)
  })
  if (isCut) for (const byte of bytes) feeder.push(Uint8Array.of(byte))
  else feeder.push(bytes)
  strictEqual(decoder.finished, description !== undefined)
  feeder.end()
  return tail
}

describe('the device tail of a precopy', () => {
  for (const [title, body] of traps) {
    it(`is cut after its last device, and not at ${title}`, () => {
      const sections = new stream.DeviceSectionWriter(5)
      for (const idstr of ['a', 'b']) {
        sections.add({ idstr, instanceId: 0, version: 1 }, (out) => {
          out.bytes(wire(body))
        })
      }
      const devices = sections.take()
      for (const isCut of [false, true]) {
        for (const description of ['{"devices": ["\u00e4\u20ac"]}', undefined]) {
          deepStrictEqual(decode(devices, description, isCut), { devices, description })
        }
      }
    })
  }
})

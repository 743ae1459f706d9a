/** Decoders of the wire format, fed in pieces; the first byte of an input is their size. */
import { StreamError } from '../../../src/errors.js'
import { listDevices } from '../../../src/park/device-list.js'
import { sizeDevices } from '../../../src/stream/device-sizes.js'
import * as stream from '../../../src/stream/index.js'
import * as short from '../../stream/short-stream.js'
import { bounded } from '../bounded.js'
import { type Target, demand } from '../target.js'

/** The result: the code of the refusal, or how the stream ended. */
function feed(decoder: stream.ChannelDecoder, input: Uint8Array): string {
  const pieceBytes = 1 + (input[0] ?? 0) * 16
  const bytes = input.subarray(1)
  const feeder = new stream.StreamFeeder(decoder)
  return answerOf(bytes, () => {
    for (let at = 0; at < bytes.length; at += pieceBytes) {
      feeder.push(bytes.subarray(at, at + pieceBytes))
      demand(
        feeder.leftoverBytes < stream.MAX_LOOK_AHEAD_BYTES,
        'the remaining bytes are not an element',
      )
    }
    const isFinished = decoder.finished
    feeder.end()
    return isFinished ? 'finished' : 'ended'
  })
}

/** Runs it within the memory bound. The only valid error is a StreamError inside the input. */
function answerOf(bytes: Uint8Array, run: () => string): string {
  return bounded(bytes.length, () => {
    try {
      return run()
    } catch (error) {
      if (!(error instanceof StreamError)) throw error
      const { streamOffset, code } = error
      demand(streamOffset >= 0 && streamOffset <= bytes.length, `${code} at ${streamOffset}`)
      return code
    }
  })
}

function decoderTarget(make: () => stream.ChannelDecoder, seeds: readonly Uint8Array[]): Target {
  return {
    seeds: seeds.map((bytes) => Uint8Array.of(255, ...bytes)),
    tokens,
    maxBytes: 12_000,
    run: (input) => feed(make(), input),
  }
}

const elements: ((out: stream.Writer) => void)[] = [
  stream.encodeFileHeader,
  (out) => stream.encodeConfiguration(out, 'pc'),
  stream.encodeOpenReturnPath,
  (out) => stream.encodePing(out, 1),
  (out) => stream.encodeAdvise(out, 0x201000, 0x1000),
  (out) =>
    stream.encodeSectionStart(out, { id: short.RAM_ID, idstr: 'ram', instanceId: 0, version: 4 }),
  (out) => stream.encodeRamBlockList(out, short.blocks),
  (out) => stream.encodeSectionPart(out, short.RAM_ID),
  (out) => stream.encodeSectionEnd(out, short.RAM_ID),
  short.closeSection,
  (out) => stream.encodeRamZero(out, 'rom', 0),
  (out) => stream.encodeRamZero(out, undefined, 0x1000),
  (out) => stream.encodeRamDiscard(out, 'rom', [0, 0x1000]),
  (out) => stream.encodePackaged(out, stream.encodePackage(short.devices())),
  (out) => out.bytes(short.devices()),
  stream.encodeEndOfStream,
  (out) => stream.encodeVmDescription(out, '{"devices": []}'),
  (out) => stream.encodeRecvBitmapRequest(out, 'rom'),
  stream.encodeResume,
  stream.encodeSwitchoverStart,
  stream.encodeListen,
  stream.encodeRun,
  ...['configuration/uuid', 'configuration/capabilities', 'configuration/target-page-bits'].map(
    (name) => (out: stream.Writer) => out.u8(5).str8(name).u32(1).u32(12),
  ),
]
const tokens = [...elements.map(stream.encode), ...short.returnPathMessages()]

export const mainChannel = decoderTarget(
  () => new stream.StreamDecoder({}),
  [short.precopyStream(1), short.precopyStream(0, null), short.postcopyStream(1)],
)

export const recoveredChannel = decoderTarget(() => {
  const resume = { ramSectionId: short.RAM_ID, blocks: short.blocks }
  return new stream.StreamDecoder({}, { resume })
}, [short.recoveredStream()])

export const preemptChannel = decoderTarget(
  () => new stream.PreemptDecoder({}, short.blocks),
  [Buffer.concat(short.preemptRecords())],
)

export const returnPath = decoderTarget(
  () => new stream.ReturnPathDecoder({}, short.blocks),
  [Buffer.concat(short.returnPathMessages())],
)

/** A package, and the same bytes as the devices of a precopy with their description. */
export const packages: Target = {
  seeds: [
    stream.encodePackage(short.devices()),
    stream.encode((out) => {
      out.bytes(short.devices())
      out.bytes(
        Buffer.from(
          '{"devices":[{"name":"0000:00:01.3/trap","fields":[{"size":17}]},{"name":"globalstate","fields":[{"size":4,"array_len":3}],"subsections":[]}]}',
        ),
      )
    }),
  ],
  tokens,
  maxBytes: 2000,
  run: (blob) => {
    const walked = answerOf(blob, () => {
      let devices = 0
      stream.decodePackage(blob, {
        device: (header, body) => {
          devices += 1
          body.bytes(header.idstr === 'globalstate' ? 12 : 17)
        },
      })
      return `walked ${devices}`
    })
    const cut = answerOf(blob, () => `${stream.findPackagePings(blob).pings.length} pings`)
    const brace = blob.indexOf(0x7b)
    const text = brace === -1 ? new Uint8Array() : blob.subarray(brace)
    const sized = answerOf(blob, () => {
      return String(sizeDevices(brace === -1 ? blob : blob.subarray(0, brace), text)?.length)
    })
    const listed = answerOf(blob, () => `${listDevices(blob).length} listed`)
    return `${walked}, ${cut}, ${sized}, ${listed}`
  },
}

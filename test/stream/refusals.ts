import { match, strictEqual } from 'node:assert/strict'
import * as stream from '../../src/stream/index.js'
import { refuses } from './refuses.js'
import * as short from './short-stream.js'
import { wire } from './wire.js'

export type Build = (out: stream.Writer) => void

export interface Refusal {
  readonly title: string
  /** Written before the bad element. */
  readonly after: Build
  readonly bad: string
  readonly code: string
  /** Matches a part of the message. */
  readonly says: RegExp
  /** Offset of the refused element from the start of `bad`. */
  readonly at?: number
}

/** Appends bytes to a state. */
export function followedBy(before: Build, bytes: string | Build): Build {
  return (out) => {
    before(out)
    if (typeof bytes === 'string') out.bytes(wire(bytes))
    else bytes(out)
  }
}

export const nothing: Build = () => undefined
export const afterHeader: Build = stream.encodeFileHeader
export const configured = followedBy(afterHeader, '07 00000002 "pc"')
export const started: Build = short.prologue
export const inPart = followedBy(started, '02 00000002')
export const inNamedPart = followedBy(inPart, '0000000000001002 03 "rom" 00')
export const ended = followedBy(started, '03 00000002 0000000000000010 7e 00000002')
export const afterEof = followedBy(ended, '00')
export const inPostcopy = followedBy(started, (out) => {
  stream.encodePackaged(out, stream.encodePackage(short.devices()))
})
export const advised = followedBy(configured, '08 0003 0010 0000000000201000 0000000000001000')
export const START = '01 00000002 03 "ram" 00000000 00000004'
export const inList = followedBy(advised, START)
export const inListOfTwo = followedBy(inList, '0000000000002004  01 "m" 0000000000001000')
export const zeros = '0000000000000000'

/** Tests of a main channel: each refusal in one piece and byte by byte. */
export function itRefuses(refusals: readonly Refusal[]): void {
  for (const { title, after, bad, code, says, at = 0 } of refusals) {
    it(`${title}, with its offset, in one piece and byte by byte`, () => {
      const good = stream.encode(after)
      const bytes = new Uint8Array([...good, ...wire(bad)])
      const whole = new stream.StreamDecoder({})
      const error = refuses(() => whole.write(bytes), `ERR_STREAM_${code}`)
      match(error.message, says)
      strictEqual(error.streamOffset, good.length + at)

      const feeder = new stream.StreamFeeder(new stream.StreamDecoder({}))
      const again = refuses(() => {
        for (const byte of bytes) feeder.push(Uint8Array.of(byte))
      }, error.code)
      strictEqual(again.message, error.message)
    })
  }
}

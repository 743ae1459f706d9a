import { deepStrictEqual, match, strictEqual } from 'node:assert/strict'
import * as stream from '../../src/stream/index.js'
import { digest, type Event, recordReturnPath } from './events.js'
import { refuses } from './refuses.js'
import { blocks, returnPathMessages } from './short-stream.js'
import { wire } from './wire.js'

const padded = new Uint8Array(8)
padded[0] = 2

const named = '0003 000e 0000000000000000 00200000 01 "m"'
const bitmapOfRom = '0005 0004 03 "rom"'

const refusals: [
  title: string,
  before: string,
  bad: string,
  code: string,
  says: RegExp,
  at?: number,
][] = [
  ['message 0', '', '0000 0000', 'RETURN_PATH', /unknown return path message 0/],
  ['message 8', '', '0008 0000', 'RETURN_PATH', /unknown return path message 8/],
  ['a long SHUT', '', '0001 0005', 'RETURN_PATH', /SHUT with 5 bytes, not 4/],
  ['a short PONG', '', '0002 0000', 'RETURN_PATH', /PONG with 0 bytes, not 4/],
  ['a long REQ_PAGES', '', '0004 000d', 'RETURN_PATH', /REQ_PAGES with 13 bytes, not 12/],
  ['a payload of 513 bytes', '', '0003 0201', 'RETURN_PATH', /REQ_PAGES_ID with 513 bytes/],
  ['a nameless REQ_PAGES_ID', '', '0003 000b 0000000000000000 000000', 'RETURN_PATH', /11 bytes/],
  [
    'a REQ_PAGES_ID longer than its name',
    '',
    '0003 0010 0000000000000000 00001000 01 "mmm"',
    'RETURN_PATH',
    /REQ_PAGES_ID: 4 bytes do not fit a block name/,
  ],
  ['a SWITCHOVER_ACK with payload', '', '0007 0001', 'RETURN_PATH', /SWITCHOVER_ACK with 1/],
  ['RESUME_ACK of 0', '', '0006 0004 00000000', 'RETURN_PATH', /RESUME_ACK of 0, not 1/],
  [
    'a request before any name',
    '',
    '0004 000c 0000000000000000 00200000',
    'BLOCK',
    /REQ_PAGES before any named block/,
  ],
  [
    'a request of an unknown block',
    '',
    '0003 000e 0000000000000000 00001000 01 "x"',
    'BLOCK',
    /REQ_PAGES_ID: no RAM block "x"/,
  ],
  [
    'a request of no pages',
    named,
    '0004 000c 0000000000000000 00000000',
    'RANGE',
    /block "m", 0x0 \+ 0x0 is empty/,
  ],
  [
    'a request in the middle of a huge page',
    named,
    '0004 000c 0000000000001000 00200000',
    'RANGE',
    /REQ_PAGES: block "m", 0x1000 \+ 0x200000 is not aligned to 2097152/,
  ],
  [
    'a request of half a huge page',
    named,
    '0004 000c 0000000000000000 00001000',
    'RANGE',
    /not aligned to 2097152/,
  ],
  [
    'a request beyond the block',
    named,
    '0004 000c 0000000000400000 00200000',
    'RANGE',
    /outside the block's 0x400000 bytes/,
  ],
  [
    'a request of 2^53 and more',
    named,
    '0004 000c ffffffffffffffff 00200000',
    'NUMBER',
    /too large/,
    4,
  ],
  ['a bitmap of an unknown block', '', '0005 0002 01 "x"', 'BLOCK', /RECV_BITMAP: no RAM block/],
  ['a bitmap of no block', '', '0005 0000', 'RETURN_PATH', /RECV_BITMAP: 0 bytes/],
  [
    'a bitmap of another size',
    '',
    `${bitmapOfRom} 0000000000000010`,
    'RECV_BITMAP',
    /block "rom": 16 bytes, not 8 bytes/,
  ],
  [
    'a bitmap of 2^60 bytes',
    '',
    `${bitmapOfRom} 1000000000000008`,
    'RECV_BITMAP',
    /block "rom": 4 GiB or more, not 8 bytes/,
  ],
  [
    'a bitmap without its end mark',
    '',
    `${bitmapOfRom} 0000000000000008 0000000000000000 0123456789abcdee`,
    'RECV_BITMAP',
    /0x1234567:0x89abcdee instead of its end mark/,
  ],
  ['a message after SHUT', '0001 0004 00000000', '0002', 'ELEMENT', /after the end/],
]

describe('ReturnPathDecoder', () => {
  it('decodes the output of the encoder', () => {
    const events: Event[] = []
    const decoder = new stream.ReturnPathDecoder(recordReturnPath(events), blocks)
    decoder.write(Buffer.concat(returnPathMessages()))
    decoder.end()
    deepStrictEqual(events, [
      ['pong', 1],
      ['switchoverAck'],
      ['requestPages', 'm', 0x200000, 0x200000],
      ['requestPages', 'm', 0, 0x200000],
      ['requestPages', 'rom', 0x1000, 0x1000],
      ['recvBitmap', 'm', digest(new Uint8Array(128).fill(0x5a))],
      ['recvBitmap', 'rom', digest(padded)],
      ['resumeAck'],
      ['shut', 0],
    ])
  })

  it('keeps the block of the last request across other messages', () => {
    const events: Event[] = []
    const decoder = new stream.ReturnPathDecoder(recordReturnPath(events), blocks)
    decoder.write(wire(`${named} 0002 0004 00000001 0004 000c 0000000000200000 00200000`))
    deepStrictEqual(events.at(-1), ['requestPages', 'm', 0x200000, 0x200000])
  })

  for (const [title, before, bad, code, says, at = 0] of refusals) {
    it(`refuses ${title}`, () => {
      const decoder = new stream.ReturnPathDecoder({}, blocks)
      const good = wire(before)
      const bytes = Buffer.concat([good, wire(bad)])
      const error = refuses(() => decoder.write(bytes), `ERR_STREAM_${code}`)
      match(error.message, says)
      strictEqual(error.streamOffset, good.length + at)
    })
  }
})

describe('PreemptDecoder', () => {
  it('has a last block of its own', () => {
    const decoder = new stream.PreemptDecoder({}, blocks)
    refuses(() => decoder.write(wire('0000000000000022 00')), 'ERR_STREAM_BLOCK')
  })

  it('refuses data that is not a record of its blocks', () => {
    const wrong = [
      ['51 45 56 4d 00000003', 'ERR_STREAM_RAM_FLAGS'],
      ['0000000000001002 01 "x" 00', 'ERR_STREAM_BLOCK'],
      ['0000000000002002 03 "rom" 00', 'ERR_STREAM_RANGE'],
    ] as const
    for (const [bytes, code] of wrong) {
      const decoder = new stream.PreemptDecoder({}, blocks)
      strictEqual(refuses(() => decoder.write(wire(bytes)), code).streamOffset, 0)
    }
  })
})

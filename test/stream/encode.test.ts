import { strictEqual, throws } from 'node:assert/strict'
import * as stream from '../../src/stream/index.js'
import { wire } from './wire.js'

function hexOf(build: (out: stream.Writer) => void): string {
  return hex(stream.encode(build))
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex')
}

const page = new Uint8Array(4096).fill(0xa5)

/** Bytes of QEMU's wire format: each was seen on the wire, or follows from its tables. */
const cases: [title: string, build: (out: stream.Writer) => void, bytes: string][] = [
  ['the file header', stream.encodeFileHeader, '51 45 56 4d 00 00 00 03'],
  [
    'the configuration of a 7.2 machine',
    (out) => {
      stream.encodeConfiguration(out, 'pc-i440fx-7.2')
    },
    '07 0000000d "pc-i440fx-7.2"',
  ],
  [
    'the subsection of a capability',
    (out) => {
      const name = 'configuration/capabilities'
      stream.encodeConfiguration(out, 'x', [{ name, capabilities: ['mapped-ram'] }])
    },
    '07 00000001 "x" 05 1a "configuration/capabilities" 00000001 00000001 0a "mapped-ram"',
  ],
  [
    'the subsection of a uuid',
    (out) => {
      const name = 'configuration/uuid'
      stream.encodeConfiguration(out, 'x', [{ name, uuid: new Uint8Array(16).fill(7) }])
    },
    `07 00000001 "x" 05 12 "configuration/uuid" 00000001 ${'07'.repeat(16)}`,
  ],
  [
    'the subsection of the page size',
    (out) => {
      const name = 'configuration/target-page-bits'
      stream.encodeConfiguration(out, 'x', [{ name, bits: 12 }])
    },
    '07 00000001 "x" 05 1e "configuration/target-page-bits" 00000001 0000000c',
  ],
  ['OPEN_RETURN_PATH', stream.encodeOpenReturnPath, '08 0001 0000'],
  [
    'PING 0x42',
    (out) => {
      stream.encodePing(out, 0x42)
    },
    '08 0002 0004 00000042',
  ],
  [
    'ADVISE with a 2 MiB block',
    (out) => {
      stream.encodeAdvise(out, 0x201000, 0x1000)
    },
    '08 0003 0010 0000000000201000 0000000000001000',
  ],
  [
    'ADVISE with bits above the 32nd',
    (out) => {
      stream.encodeAdvise(out, 2 ** 34 + 4096, 0x1000)
    },
    '08 0003 0010 0000000400001000 0000000000001000',
  ],
  ['LISTEN', stream.encodeListen, '08 0004 0000'],
  ['RUN', stream.encodeRun, '08 0005 0000'],
  [
    'RAM_DISCARD of one range',
    (out) => {
      stream.encodeRamDiscard(out, 'm', [0, 0x1000000])
    },
    '08 0006 0014 00 01 "m" 00 0000000000000000 0000000001000000',
  ],
  [
    'RAM_DISCARD of two ranges',
    (out) => {
      stream.encodeRamDiscard(out, 'pc.ram', [0x100000, 0xf00000, 0x2ade000, 0x1522000])
    },
    '08 0006 0029 00 06 "pc.ram" 00 0000000000100000 0000000000f00000' +
      '0000000002ade000 0000000001522000',
  ],
  [
    'no RAM_DISCARD for no range',
    (out) => {
      stream.encodeRamDiscard(out, 'm', [])
    },
    '',
  ],
  [
    'PACKAGED, whose length leaves out the blob',
    (out) => {
      stream.encodePackaged(out, Uint8Array.of(1, 2, 3))
    },
    '08 0007 0004 00000003 010203',
  ],
  ['RESUME', stream.encodeResume, '08 0009 0000'],
  [
    'RECV_BITMAP',
    (out) => {
      stream.encodeRecvBitmapRequest(out, 'm')
    },
    '08 000a 0002 01 6d',
  ],
  ['SWITCHOVER_START', stream.encodeSwitchoverStart, '08 000b 0000'],
  [
    'START of ram with a 2 MiB block',
    (out) => {
      stream.encodeSectionStart(out, { id: 2, idstr: 'ram', instanceId: 0, version: 4 })
      stream.encodeRamBlockList(out, [
        { name: 'm', usedLengthBytes: 0x1800000, pageSizeBytes: 0x200000 },
        { name: 'pc.rom', usedLengthBytes: 0x20000 },
      ])
      stream.encodeRamEndOfSection(out)
      stream.encodeFooter(out, 2)
    },
    '01 00000002 03 "ram" 00000000 00000004  0000000001820004' +
      '01 "m" 0000000001800000 0000000000200000  06 "pc.rom" 0000000000020000' +
      '0000000000000010 7e 00000002',
  ],
  [
    'an empty PART',
    (out) => {
      stream.encodeSectionPart(out, 2)
      stream.encodeRamEndOfSection(out)
      stream.encodeFooter(out, 2)
    },
    '02 00000002 0000000000000010 7e 00000002',
  ],
  [
    'an END',
    (out) => {
      stream.encodeSectionEnd(out, 0x01020304)
    },
    '03 01020304',
  ],
  [
    'a named page, as it begins a preempt channel',
    (out) => {
      stream.encodeRamPage(out, 'm', 0x3bc000, page)
    },
    `00000000003bc008 01 6d ${'a5'.repeat(4096)}`,
  ],
  [
    'a page of the block before',
    (out) => {
      stream.encodeRamPage(out, undefined, 0x3bd000, page)
    },
    `00000000003bd028 ${'a5'.repeat(4096)}`,
  ],
  [
    'zero pages, beyond 4 GiB, too',
    (out) => {
      stream.encodeRamZero(out, 'm', 0)
      stream.encodeRamZero(out, undefined, 5 * 2 ** 30)
    },
    '0000000000000002 01 "m" 00  0000000140000022 00',
  ],
  ['EOF', stream.encodeEndOfStream, '00'],
  [
    'a description',
    (out) => {
      stream.encodeVmDescription(out, '{"page_size": 4096}')
    },
    '06 00000013 "{" 22 "page_size" 22 ": 4096}"',
  ],
  [
    'SHUT',
    (out) => {
      stream.encodeShut(out, 0)
    },
    '0001 0004 00000000',
  ],
  [
    'PONG',
    (out) => {
      stream.encodePong(out, 3)
    },
    '0002 0004 00000003',
  ],
  [
    'REQ_PAGES_ID, which is 3',
    (out) => {
      stream.encodePageRequest(out, 'pc.ram', 0x12000, 0x1000)
    },
    '0003 0013 0000000000012000 00001000 06 "pc.ram"',
  ],
  [
    'REQ_PAGES, which is 4',
    (out) => {
      stream.encodePageRequest(out, undefined, 0x200000, 0x200000)
    },
    '0004 000c 0000000000200000 00200000',
  ],
  [
    'RECV_BITMAP of a one-page block, padded to 8 bytes',
    (out) => {
      stream.encodeRecvBitmap(out, 'm', Uint8Array.of(1))
    },
    '0005 0002 01 6d 0000000000000008 0100000000000000 0123456789abcdef',
  ],
  ['RESUME_ACK', stream.encodeResumeAck, '0006 0004 00000001'],
  ['SWITCHOVER_ACK', stream.encodeSwitchoverAck, '0007 0000'],
]

describe('stream encoder', () => {
  for (const [title, build, bytes] of cases) {
    it(`writes ${title}`, () => {
      strictEqual(hexOf(build), hex(wire(bytes)))
    })
  }

  it('puts at most 12 ranges in one RAM_DISCARD', () => {
    const ranges = Array.from({ length: 25 }, (_, i) => [i * 8192, 4096]).flat()
    const bytes = stream.encode((out) => {
      stream.encodeRamDiscard(out, 'm', ranges)
    })
    const lengths: number[] = []
    for (let at = 0; at < bytes.length; at += 5 + (lengths.at(-1) ?? 0)) {
      lengths.push(Buffer.from(bytes).readUInt16BE(at + 3))
    }
    strictEqual(lengths.join(), [4 + 12 * 16, 4 + 12 * 16, 4 + 16].join())
  })

  it('begins a package with LISTEN and ends it with PING 3, PING 0x42, RUN', () => {
    const sections = new stream.DeviceSectionWriter(9)
    sections.add({ idstr: 'cpu', instanceId: 1, version: 12 }, (out) => {
      out.u16(0xbeef)
    })
    strictEqual(
      hex(stream.encodePackage(sections.take())),
      hex(
        wire(
          '08 0004 0000  04 00000009 03 "cpu" 00000001 0000000c beef 7e 00000009' +
            '08 0002 0004 00000003  08 0002 0004 00000042  08 0005 0000',
        ),
      ),
    )
  })

  const wrong: [title: string, build: (out: stream.Writer) => void][] = [
    [
      'an unaligned offset',
      (out) => {
        stream.encodeRamZero(out, 'm', 5)
      },
    ],
    [
      'half a page',
      (out) => {
        stream.encodeRamPage(out, 'm', 0, new Uint8Array(2048))
      },
    ],
    [
      'half a range',
      (out) => {
        stream.encodeRamDiscard(out, 'm', [0])
      },
    ],
    [
      'a name of 256 bytes',
      (out) => {
        out.str8('x'.repeat(256))
      },
    ],
    [
      'a name of 128 characters of two bytes',
      (out) => {
        out.str8('\u{100}'.repeat(128))
      },
    ],
    [
      'a name that is not well-formed',
      (out) => {
        out.str8('\u{d800}')
      },
    ],
    [
      'a negative number',
      (out) => {
        out.u32(-1)
      },
    ],
    [
      'a fraction',
      (out) => {
        out.u64(0.5)
      },
    ],
    [
      '2^53',
      (out) => {
        out.u64(2 ** 53)
      },
    ],
    [
      '256 as a byte',
      (out) => {
        out.u8(256)
      },
    ],
    [
      'a package of 4 GiB',
      (out) => {
        stream.encodePackagedHeader(out, 2 ** 32)
      },
    ],
  ]
  for (const [title, build] of wrong) {
    it(`refuses ${title} with a RangeError`, () => {
      throws(() => hexOf(build), RangeError)
    })
  }
})

import { deepStrictEqual, match } from 'node:assert/strict'
import * as stream from '../../src/stream/index.js'
import { refuses } from './refuses.js'

const HUGE = 0x200000

interface ListCase {
  readonly title: string
  /** undefined: no ADVISE. */
  readonly summary: number | undefined
  readonly blocks: readonly stream.RamBlockInfo[]
}

const cases: ListCase[] = [
  {
    title: 'no page sizes without ADVISE',
    summary: undefined,
    blocks: [
      { name: 'm', usedLengthBytes: 0x1800000 },
      { name: 'pc.rom', usedLengthBytes: 0x20000 },
    ],
  },
  {
    title: 'no page sizes if ADVISE has only the base page size',
    summary: 0x1000,
    blocks: [
      { name: 'm', usedLengthBytes: 0x1800000 },
      { name: 'pc.rom', usedLengthBytes: 0x20000 },
    ],
  },
  {
    title: 'a page size for the first block, none for the others',
    summary: 0x201000,
    blocks: [
      { name: 'm', usedLengthBytes: 0x1800000, pageSizeBytes: HUGE },
      { name: 'pc.rom', usedLengthBytes: 0x20000 },
    ],
  },
  {
    title: 'a page size of the last block only',
    summary: 0x201000,
    blocks: [
      { name: 'pc.rom', usedLengthBytes: 0x20000 },
      { name: 'm', usedLengthBytes: 0x1800000, pageSizeBytes: HUGE },
    ],
  },
  {
    title: 'pages of 1 GiB and 2 MiB, and a block beyond 4 GiB',
    summary: 2 ** 30 + HUGE + 4096,
    blocks: [
      { name: 'a', usedLengthBytes: 5 * 2 ** 30, pageSizeBytes: 2 ** 30 },
      { name: 'b', usedLengthBytes: HUGE, pageSizeBytes: HUGE },
      { name: 'c', usedLengthBytes: 4096 },
    ],
  },
  {
    title: 'pages of 16 GiB, a bit that 32-bit arithmetic loses',
    summary: 2 ** 34 + 4096,
    blocks: [
      { name: 'a', usedLengthBytes: 2 ** 34, pageSizeBytes: 2 ** 34 },
      { name: 'b', usedLengthBytes: 4096 },
    ],
  },
  {
    title: 'huge pages everywhere',
    summary: HUGE,
    blocks: [{ name: 'm', usedLengthBytes: HUGE, pageSizeBytes: HUGE }],
  },
  {
    title: 'a name of 32 bytes, whose length could begin a number',
    summary: 0x201000,
    blocks: [
      { name: 'x', usedLengthBytes: 4096 },
      { name: ' '.repeat(32), usedLengthBytes: 4096 },
    ],
  },
]

/** Decodes a START of ram with these blocks, followed by `rest`. */
function decode(
  { summary, blocks }: Omit<ListCase, 'title'>,
  options: stream.StreamDecoderOptions = {},
  rest: (out: stream.Writer) => void = stream.encodeRamEndOfSection,
): unknown[] {
  const seen: unknown[] = []
  const handler: stream.StreamHandler = {
    ramBlocks: (list) => {
      seen.push(...list)
    },
    ramZero: (block, offset) => {
      seen.push(`${block}@${offset}`)
    },
    ramEndOfSection: () => {
      seen.push('end')
    },
  }
  new stream.StreamDecoder(handler, options).write(
    stream.encode((out) => {
      stream.encodeFileHeader(out)
      stream.encodeConfiguration(out, 'pc')
      if (summary !== undefined) stream.encodeAdvise(out, summary, 4096)
      stream.encodeSectionStart(out, { id: 1, idstr: 'ram', instanceId: 0, version: 4 })
      stream.encodeRamBlockList(out, blocks)
      rest(out)
    }),
  )
  return seen
}

describe('the RAM block list', () => {
  for (const { title, ...list } of cases) {
    it(`finds ${title}`, () => {
      deepStrictEqual(decode(list), [...list.blocks, 'end'])
    })
  }

  it('may be followed by records at once', () => {
    const blocks = [{ name: 'm', usedLengthBytes: HUGE }]
    const record = (out: stream.Writer) => {
      stream.encodeRamZero(out, 'm', 0x2000)
    }
    deepStrictEqual(decode({ summary: 0x201000, blocks }, {}, record), [...blocks, 'm@8192'])
  })

  it('is checked against the page sizes of the receiver', () => {
    const blocks = [
      { name: 'm', usedLengthBytes: 2 * HUGE, pageSizeBytes: HUGE },
      { name: 'n', usedLengthBytes: 4096 },
    ]
    const list = { summary: 0x201000, blocks }
    const agree = (name: string) => (name === 'm' ? HUGE : 4096)
    deepStrictEqual(decode(list, { pageSizeOf: agree }), [...blocks, 'end'])
    deepStrictEqual(decode(list, { pageSizeOf: () => undefined }), [...blocks, 'end'])
    const differ = refuses(() => decode(list, { pageSizeOf: () => 4096 }), 'ERR_STREAM_BLOCK_LIST')
    match(differ.message, /"m" has pages of 2097152 bytes at the source, of 4096 here/)
  })

  it('is refused if a block has huge pages here and none at the source', () => {
    const list = { summary: 0x201000, blocks: [{ name: 'm', usedLengthBytes: HUGE }] }
    const error = refuses(() => decode(list, { pageSizeOf: () => HUGE }), 'ERR_STREAM_BLOCK_LIST')
    match(error.message, /"m" has pages of 4096 bytes at the source, of 2097152 here/)
  })

  it('has a limited length', () => {
    const blocks = Array.from({ length: 3 }, (_, i) => ({ name: `b${i}`, usedLengthBytes: 4096 }))
    const list = { summary: undefined, blocks }
    deepStrictEqual(decode(list, { limits: { maxRamBlocks: 3 } }), [...blocks, 'end'])
    const error = refuses(() => decode(list, { limits: { maxRamBlocks: 2 } }), 'ERR_STREAM_LIMIT')
    match(error.message, /more than 2 RAM blocks/)
  })
})

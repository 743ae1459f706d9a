import assert from 'node:assert/strict'
import * as stream from '../../src/stream/index.js'
import * as short from '../stream/short-stream.js'
import { libvirtImage, ramSection, streamOf } from './short-images.js'
import { bytesOf, opened, refuses, save } from './support.js'

const two: readonly (readonly [number, number | undefined])[] = [
  [1, 0x11],
  [2, 0x22],
]

function simple(): Uint8Array {
  return streamOf({ sections: (out) => ramSection(out, 'end', two) })
}

/** An iterable device that no reader knows: only the footer tells where a section of it ends. */
function unknown(out: stream.Writer, type: 1 | 2 | 3, body: Uint8Array): void {
  if (type === 1) {
    stream.encodeSectionStart(out, { id: 9, idstr: 'pbs-state', instanceId: 0, version: 1 })
  } else out.u8(type).u32(9)
  out.bytes(body)
  stream.encodeFooter(out, 9)
}

describe('a plain stream', () => {
  it('has the last copy of each page; a page that became zero has none', async () => {
    const bytes = streamOf({
      sections: (out) => {
        ramSection(out, 'part', [[0, 0x10], ...two, [3, undefined], [7, 0x77]])
        ramSection(out, 'part', [
          [2, 0x99],
          [7, undefined],
          [3, 0x33],
        ])
        ramSection(out, 'end', [[0, 0x55]])
      },
    })
    const image = await opened(await save(bytes))
    assert.deepEqual(bytesOf(image), { 0: 0x55, 1: 0x11, 2: 0x99, 3: 0x33 })
  })

  it('has one run for pages whose records follow each other', async () => {
    const pages = Array.from({ length: 700 }, (_, page) => [page, page % 251] as const)
    const bytes = streamOf({ pages: 700, sections: (out) => ramSection(out, 'end', pages) })
    const image = await opened(await save(bytes))
    const [block] = image.blocks
    assert.deepEqual([...(block?.runs.subarray(0, 3) ?? []), block?.runs[4]], [0, 700, 0, 4104])
    assert.equal(block?.runs.length, 5)
    assert.equal(Object.keys(bytesOf(image)).length, 700)
  })

  it('may have pages again in an order that no table expects', async () => {
    const order = [600, 3, 511, 512, 3, 600, 0] as const
    const bytes = streamOf({
      pages: 700,
      sections: (out) =>
        ramSection(
          out,
          'end',
          order.map((page, at) => [page, at + 1]),
        ),
    })
    const found = bytesOf(await opened(await save(bytes)))
    assert.deepEqual(found, { 0: 7, 3: 5, 511: 3, 512: 4, 600: 6 })
  })

  it('may end without an END of ram, as a background snapshot does', async () => {
    const bytes = streamOf({ sections: (out) => ramSection(out, 'part', two) })
    assert.deepEqual(bytesOf(await opened(await save(bytes))), { 1: 0x11, 2: 0x22 })
  })

  it('may be followed by other bytes, as on a block device', async () => {
    const path = await save(Buffer.concat([simple(), Buffer.alloc(70_000, 0x5a)]))
    const image = await opened(path)
    assert.deepEqual(bytesOf(image), { 1: 0x11, 2: 0x22 })
    assert.deepEqual(Buffer.from(image.devices), Buffer.from(short.devices()))
    assert.equal(Buffer.from(image.description ?? []).toString(), '{"a": [1]}')
  })

  it('may lack the description, if nothing follows the end', async () => {
    const bytes = streamOf({ sections: (out) => ramSection(out, 'end', two), description: null })
    const image = await opened(await save(bytes))
    assert.equal(image.description, undefined)
    assert.deepEqual(Buffer.from(image.devices), Buffer.from(short.devices()))
  })

  it('may have other iterable devices, whose sections are skipped', async () => {
    const footerInside = Uint8Array.of(1, 0x7e, 0, 0, 0, 9, 2, 3, 0x7e)
    const bytes = streamOf({
      sections: (out) => {
        unknown(out, 1, footerInside)
        ramSection(out, 'part', two)
        unknown(out, 2, new Uint8Array(0))
        ramSection(out, 'end', [[5, 0x55]])
        unknown(out, 3, new Uint8Array(300_000).fill(0x7e))
      },
    })
    assert.deepEqual(bytesOf(await opened(await save(bytes))), { 1: 0x11, 2: 0x22, 5: 0x55 })
  })

  it("after libvirt's header is read at its offset, in both byte orders", async () => {
    for (const isLittle of [true, false]) {
      const image = await opened(await save(libvirtImage(() => simple(), { isLittle })))
      assert.deepEqual(bytesOf(image), { 1: 0x11, 2: 0x22 })
      assert.deepEqual([image.libvirt?.name, image.libvirt?.uuid], ['a&b', 'u-1'])
      assert.equal(image.libvirt?.cookie, '<cookie/>')
    }
  })

  it('keeps sections before RAM only if the description confirms where they end', async () => {
    const before = (out: stream.Writer): void => {
      stream.encodeSectionFull(out, { id: 40, idstr: 'mem-early', instanceId: 0, version: 1 })
      out.bytes(Uint8Array.of(0x7e, 0, 0, 0, 40, 1, 2, 3))
      stream.encodeFooter(out, 40)
    }
    const device = (name: string, size: number): string =>
      `{"name": "${name}", "fields": [{"size": ${size}}]}`
    const description = (size: number): string =>
      `{"devices": [${device('mem-early', size)}, ${device('0000:00:01.3/trap', 17)}, ${device('globalstate', 12)}]}`
    const sections = (out: stream.Writer): void => ramSection(out, 'end', two)
    const good = await opened(
      await save(streamOf({ before, sections, description: description(8) })),
    )
    assert.equal(good.earlySections.length, 5 + 10 + 8 + 8 + 5)
    const wrong = await save(streamOf({ before, sections, description: description(7) }))
    await refuses(wrong, 'ERR_SAVED_REFUSED', /loaded before RAM.*QEMU itself/)
  })

  it('that cannot be resumed is refused by name', async () => {
    const flags = (flag: number) => (out: stream.Writer) => {
      stream.encodeSectionPart(out, short.RAM_ID)
      out.u64(flag).str8('m')
    }
    const sections = (out: stream.Writer): void => ramSection(out, 'end', two)
    const refused: readonly [Uint8Array, RegExp][] = [
      [short.postcopyStream(), /stream of a postcopy migration.*park --from/],
      [streamOf({ sections, capabilities: ['x-ignore-shared'] }), /share=on.*x-ignore-shared off/],
      [streamOf({ sections: flags(0x40) }), /XBZRLE.*xbzrle off/],
      [streamOf({ sections: flags(0x200) }), /MULTIFD_FLUSH.*multifd off/],
    ]
    for (const [bytes, message] of refused) {
      await refuses(await save(bytes), 'ERR_SAVED_REFUSED', message)
    }
  })

  it('that is damaged is refused with the offset and what is wrong there', async () => {
    const withSections = (sections: (out: stream.Writer) => void): Uint8Array =>
      streamOf({ sections })
    const damaged: readonly [Uint8Array, RegExp][] = [
      [
        withSections((out) => ramSection(out, 'end', [[8, 1]])),
        /"m": the page at 0x8000 is outside/,
      ],
      [withSections((out) => out.u8(2).u32(77)), /PART of section 77, which has not started/],
      [withSections((out) => out.u8(0x33)), /0x33 does not begin a section/],
      [
        withSections((out) => out.u8(2).u32(2).u64(0x8).str8('none')),
        /"none", which is not in the list/,
      ],
      [
        withSections((out) => out.u8(2).u32(2).u64(0x1010)),
        /end of the records of ram has an offset/,
      ],
      [withSections((out) => out.u8(2).u32(2).u64(0x2).str8('m').u8(7)), /is filled with 0x7/],
      [withSections((out) => out.u8(2).u32(2).u64(0x28)), /continues no RAM block/],
      [withSections((out) => out.u8(2).u32(2).u64(0x10).u8(0x7e).u32(3)), /instead of the footer/],
      [
        withSections((out) => {
          ramSection(out, 'end', two)
          ramSection(out, 'part', two)
        }),
        /PART of section ram after its END/,
      ],
    ]
    for (const [bytes, message] of damaged) {
      await refuses(await save(bytes), 'ERR_SAVED_DAMAGED', message)
    }
  })

  it('may announce no more RAM than it can hold', async () => {
    const bytes = streamOf({ pages: 2 ** 31, sections: (out) => ramSection(out, 'end', two) })
    await refuses(await save(bytes), 'ERR_SAVED_DAMAGED', /more than this file can hold/)
  })
})

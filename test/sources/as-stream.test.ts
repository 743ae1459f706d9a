/** Saved files as plain streams, as `park --from` reads them. */
import assert from 'node:assert/strict'
import { truncateSync } from 'node:fs'
import { streamOf as plainStreamOf } from '../../src/sources/as-stream.js'
import { ramOf } from '../park/support.js'
import { filled, mappedRam, ramSection, streamOf } from './short-images.js'
import { opened, save } from './support.js'

describe('a saved VM as a stream', () => {
  it('lets the event loop run after each piece, also of zero pages only', async () => {
    // 2 GiB in a file of a few KiB: nothing is read for the pages.
    const sections = (out: Parameters<typeof ramSection>[0]): void => {
      ramSection(out, 'end', [[0, 0x11]])
    }
    const image = await opened(await save(streamOf({ pages: 2 ** 19, sections })))
    let turns = 0
    let immediate = setImmediate(function count() {
      turns += 1
      immediate = setImmediate(count)
    })
    let [pieces, bytes] = [0, 0]
    for await (const piece of plainStreamOf(image)) {
      pieces += 1
      bytes += piece.length
    }
    clearImmediate(immediate)
    assert(bytes > 2 ** 19 * 9, `${bytes} bytes`)
    assert(pieces > 4, `${pieces} pieces`)
    assert(turns >= pieces - 2, `${turns} turns, ${pieces} pieces`)
  })

  it('reads only pages with data from a mapped-ram file', async () => {
    // Two pages, a short gap, a long gap, one page, and a hole up to the end.
    const pages = Array.from({ length: 1500 }, (_, page) => {
      return [0, 1, 4, 700].includes(page) ? 0x11 + (page % 7) : undefined
    })
    const path = await save(mappedRam({ pages }))
    const image = await opened(path)
    const [block] = image.blocks
    // A read after page 700 fails now.
    truncateSync(path, (block?.runs[3] ?? 0) + 701 * 4096)
    const parts: Uint8Array[] = []
    for await (const piece of plainStreamOf(image)) parts.push(Buffer.from(piece))
    const ram = ramOf(Buffer.concat(parts)).get('m') ?? new Uint8Array(0)
    const expected = Buffer.concat(pages.map((byte) => filled(byte ?? 0)))
    assert(Buffer.from(ram).equals(expected))
  })
})

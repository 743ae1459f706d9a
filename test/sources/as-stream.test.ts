/** Saved files as plain streams, as `park --from` reads them. */
import assert from 'node:assert/strict'
import { streamOf as plainStreamOf } from '../../src/sources/as-stream.js'
import { ramSection, streamOf } from './short-images.js'
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
})

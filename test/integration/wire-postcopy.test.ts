/** The pages that our source sends after the switch: requested ones first, within the limit. */
import assert from 'node:assert/strict'
import { PUSH_NEVER } from '../../src/migration/options.js'
import * as stream from '../../src/stream/index.js'
import { reached } from '../support/migration.js'
import { begin, finish, oneBatch, packageIndex, pagesOf } from '../support/source-under-test.js'

describe('a requested page', () => {
  it('is sent before any other, and the sweep continues after it', async () => {
    const one = await begin(
      { blocks: { ram: 2 ** 21, vram: 2 ** 16 } },
      { parameters: { 'max-postcopy-bandwidth': oneBatch } },
    )
    const { peer, source } = one
    source.startPostcopy()
    const from = () => packageIndex(peer)
    await peer.heard('packaged')
    await peer.until(() => pagesOf(peer, from()).length > 0)
    // The push has used up its limit.
    await reached(source, 'postcopy-active')
    const background = pagesOf(peer, from()).length
    peer.request('ram', 300 * 4096)
    peer.request('vram', 3 * 4096)
    peer.request(undefined, 5 * 4096)
    await peer.until(() => pagesOf(peer, from()).includes('vram:5'))
    const asked = pagesOf(peer, from()).slice(background)
    assert.deepEqual(
      asked.filter((page) => !asked.slice(0, asked.indexOf('ram:300')).includes(page)),
      ['ram:300', 'vram:3', 'vram:5'],
    )
    const before = pagesOf(peer, from()).length
    source.setParameters({ 'max-postcopy-bandwidth': 0 })
    await finish(one)
    assert.equal(pagesOf(peer, from())[before], 'vram:6')
    assert.equal(source.counters.requestedPages, 3)
  })

  for (const [ahead, expected] of [
    [8, [100, 101, 102, 103, 104, 105, 106, 107, 108, 109, 110, 400]],
    [3, [100, 101, 102, 103, 104, 105, 400]],
    [0, [100, 101, 102, 400]],
  ] as const) {
    it(`that continues a pattern is followed by ${ahead} more, if that many may be sent ahead`, async () => {
      const one = await begin(
        { blocks: { ram: 2 ** 21 } },
        { parameters: { 'x-push-after-quiet-ms': PUSH_NEVER, 'x-read-ahead-pages': ahead } },
      )
      const { peer, source } = one
      source.startPostcopy()
      await reached(source, 'postcopy-active')
      const from = pagesOf(peer).length
      for (const page of [100, 101, 102]) peer.request('ram', page * 4096)
      await peer.until(() => pagesOf(peer).includes(`ram:${102 + ahead}`))
      // The page requested next is sent next, because nothing else is queued.
      peer.request('ram', 400 * 4096)
      await peer.until(() => pagesOf(peer).includes('ram:400'))
      assert.deepEqual(
        pagesOf(peer).slice(from),
        expected.map((page) => `ram:${page}`),
      )
      source.setParameters({ 'x-push-after-quiet-ms': 0 })
      await finish(one)
    })
  }

  it('is followed by a ping only after every 32 KiB', async () => {
    const one = await begin(
      { blocks: { ram: 2 ** 21 } },
      { parameters: { 'x-push-after-quiet-ms': PUSH_NEVER, 'x-read-ahead-pages': 0 } },
    )
    const { peer, source } = one
    source.startPostcopy()
    await reached(source, 'postcopy-active')
    const from = peer.events.length
    // None of these is a zero page.
    for (let page = 1; page < 400; page += 20) {
      peer.request('ram', page * 4096)
      await peer.until(() => pagesOf(peer, from).includes(`ram:${page}`))
    }
    // The ping after the package may be read only now.
    const pings = peer.events
      .slice(from)
      .filter(([name, value]) => name === 'ping' && Number(value) > stream.PingValue.packageLoaded)
    assert.equal(pings.length, 2)
    source.setParameters({ 'x-push-after-quiet-ms': 0 })
    await finish(one)
  })

  it('and all other pages are sent even if no ping is answered after the switch', async () => {
    const one = await begin({ blocks: { ram: 2 ** 21 } })
    const { peer, source } = one
    const answer = peer.onPing
    peer.onPing = (value) => {
      if (value <= stream.PingValue.packageLoaded) answer(value)
    }
    source.startPostcopy()
    await peer.heard('packaged')
    peer.request('ram', 300 * 4096)
    await finish(one)
    assert.equal(new Set(pagesOf(peer)).size, 512)
  })

  it('that was already sent is not sent again', async () => {
    const one = await begin(
      { blocks: { ram: 2 ** 21 } },
      { parameters: { 'max-postcopy-bandwidth': oneBatch } },
    )
    const { peer, source } = one
    source.startPostcopy()
    await peer.heard('packaged')
    await peer.until(() => pagesOf(peer, packageIndex(peer)).length > 0)
    peer.request('ram', 0)
    peer.request('ram', 0)
    source.setParameters({ 'max-postcopy-bandwidth': 0 })
    await finish(one)
    const sent = pagesOf(peer, packageIndex(peer))
    assert.equal(new Set(sent).size, sent.length)
  })
})

describe('a limit of postcopy bandwidth', () => {
  it('is met in steps of a tenth of a second', async () => {
    // A tenth of it is ten pages. Before the guest is reported to run, time for far
    // more of them passes.
    const parameters = { 'max-postcopy-bandwidth': 100 * 4104, 'x-postcopy-after-ms': 1 }
    const one = await begin({ blocks: { ram: 2 ** 22 } }, { parameters })
    await one.peer.heard('packaged')
    const pushed = (): string[] => pagesOf(one.peer, packageIndex(one.peer))
    await one.peer.until(() => pushed().length > 0)
    assert(pushed().length <= 10, `${pushed().length} pages were sent at once`)
    one.source.setParameters({ 'max-postcopy-bandwidth': 0 })
    await finish(one)
  })
})

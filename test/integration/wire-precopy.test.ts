/** The pages that our source sends in precopy. */
import assert from 'node:assert/strict'
import { BATCH_PAGES, begin, finish, pagesOf } from '../support/source-under-test.js'

describe('precopy', () => {
  it('stops at its bandwidth limit, and continues when it is raised', async () => {
    const one = await begin({ blocks: { ram: 2 ** 22 } }, { parameters: { 'max-bandwidth': 1 } })
    await one.peer.until(() => pagesOf(one.peer).length >= BATCH_PAGES)
    assert.equal(pagesOf(one.peer).length, BATCH_PAGES)
    assert.equal(one.source.state, 'active')
    one.source.setParameters({ 'max-bandwidth': 0 })
    await finish(one)
    assert.equal(new Set(pagesOf(one.peer)).size, 1024)
  })

  it('sends only the pages written meanwhile in another round', async () => {
    const one = await begin(
      { blocks: { ram: 2 ** 20 } },
      { parameters: { 'max-bandwidth': 1, 'downtime-limit': 0 } },
    )
    await one.peer.until(() => pagesOf(one.peer).length === BATCH_PAGES)
    one.machine.region('ram').write(7 * 4096, Buffer.from('written again'))
    one.source.setParameters({ 'max-bandwidth': 0 })
    await finish(one)
    const pages = pagesOf(one.peer)
    assert.equal(pages.length, 257)
    assert.equal(pages.at(-1), 'ram:7')
    assert.equal(one.source.counters.normalPages + one.source.counters.zeroPages, 257)
  })

  it('announces zero pages without their bytes', async () => {
    const one = await begin({ blocks: { ram: 2 ** 20 } })
    await finish(one)
    assert.equal(one.peer.all('ramZero').length, Math.ceil(256 / 5))
    assert.equal(one.source.counters.zeroPages, Math.ceil(256 / 5))
  })
})

/** The discards that our source sends at the switch: they name exactly the pages that follow. */
import assert from 'node:assert/strict'
import type { FakeDestination } from '../support/fake-peer.js'
import { describeKinds } from '../support/memory-kinds.js'
import {
  BATCH_PAGES,
  type Case,
  begin,
  finish,
  oneBatch,
  packageIndex,
  pagesOf,
} from '../support/source-under-test.js'

/** The pages that discards name, in order. */
function discardedPages(peer: FakeDestination): string[] {
  return peer.all('ramDiscard').flatMap(([, block, ranges]) => {
    const numbers = ranges as number[]
    const pages: string[] = []
    for (let at = 0; at < numbers.length; at += 2) {
      const first = (numbers[at] ?? 0) / 4096
      const count = (numbers[at + 1] ?? 0) / 4096
      for (let page = first; page < first + count; page += 1) {
        pages.push(`${String(block)}:${page}`)
      }
    }
    return pages
  })
}

describe('the discards of a source', () => {
  /** One batch of precopy, then every second page of it written, then postcopy. */
  async function redirty(): Promise<Case> {
    const one = await begin(
      { blocks: { ram: 2 ** 20, vram: 2 ** 16 } },
      { parameters: { 'max-bandwidth': oneBatch } },
    )
    await one.peer.until(() => pagesOf(one.peer).length === BATCH_PAGES)
    for (let page = 0; page < 64; page += 2) {
      one.machine.region('ram').write(page * 4096, Buffer.from('written again'))
    }
    one.source.startPostcopy()
    await finish(one)
    return one
  }

  it('name exactly the owed pages: written again or never sent', async () => {
    const { peer } = await redirty()
    const discarded = discardedPages(peer)
    const sent = pagesOf(peer, packageIndex(peer))
    assert.equal(sent.length, 32 + 128 + 16)
    assert.deepEqual([...discarded].sort(), [...sent].sort())
    assert.equal(new Set(sent).size, sent.length, 'each page is sent once')
  })

  it('are coalesced, ascending, at most 12 ranges in a command, block by block', async () => {
    const { peer } = await redirty()
    const commands = peer.all('ramDiscard')
    assert.deepEqual(
      commands.map(([, block, ranges]) => [block, (ranges as number[]).length / 2]),
      [
        ['ram', 12],
        ['ram', 12],
        ['ram', 9],
        ['vram', 1],
      ],
    )
    const ranges = commands.slice(0, 3).flatMap(([, , numbers]) => numbers as number[])
    for (let at = 2; at < ranges.length; at += 2) {
      const endBefore = (ranges[at - 2] ?? 0) + (ranges[at - 1] ?? 0)
      assert((ranges[at] ?? 0) > endBefore, 'a gap between two ranges')
    }
  })

  it('are between the last page of precopy and ping 2', async () => {
    const { peer } = await redirty()
    const first = peer.events.findIndex(([name]) => name === 'ramDiscard')
    const last = peer.events.findLastIndex(([name]) => name === 'ramDiscard')
    const ping = peer.events.findIndex(([name, value]) => name === 'ping' && value === 2)
    const lastPage = peer.events
      .slice(0, packageIndex(peer))
      .findLastIndex(([name]) => name === 'ramPage' || name === 'ramZero')
    assert(lastPage < first && first <= last && last < ping)
    assert.equal(ping + 1, packageIndex(peer))
  })
})

describeKinds('whole host pages', ['hugetlb'], (_kind, hostPage) => {
  it('are discarded and sent whole and once, also one that was half sent', async () => {
    const one = await begin(
      { kind: 'hugetlb', blocks: { ram: 3 * hostPage } },
      { parameters: { 'max-bandwidth': oneBatch } },
    )
    await one.peer.until(() => pagesOf(one.peer).length === BATCH_PAGES)
    one.source.startPostcopy()
    await one.peer.heard('packaged')
    one.peer.request('ram', 2 * hostPage, hostPage)
    await finish(one)
    const { peer } = one
    assert.deepEqual(peer.all('ramDiscard'), [['ramDiscard', 'ram', [0, 3 * hostPage]]])
    const sent = pagesOf(peer, packageIndex(peer)).map((page) => Number(page.slice(4)))
    const hostPages = hostPage / 4096
    assert.equal(sent.length, 3 * hostPages)
    for (let at = 0; at < sent.length; at += hostPages) {
      const first = sent[at] ?? -1
      assert.equal(first % hostPages, 0)
      assert.deepEqual(
        sent.slice(at, at + hostPages),
        Array.from({ length: hostPages }, (_, page) => first + page),
      )
    }
    const [, summary] = peer.all('advise')[0] ?? []
    assert.equal(summary, hostPage)
    const [, blocks] = peer.all('ramBlocks')[0] ?? []
    assert.deepEqual(blocks, [
      { name: 'ram', usedLengthBytes: 3 * hostPage, pageSizeBytes: hostPage },
    ])
  })
})

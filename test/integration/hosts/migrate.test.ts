/** Guests between two hosts that the test creates: each a network namespace of its own. */
import assert from 'node:assert/strict'
import { requires } from '../../support/requires.js'
import { begin, both, finish, guestsOn, inPostcopy, twoHosts } from '../../support/two-hosts.js'

describe('a guest on one of two hosts', () => {
  before(function () {
    requires(this, 'root', 'ip')
  })

  for (const capabilities of [['postcopy-ram'], ['postcopy-ram', 'postcopy-preempt']]) {
    it(`migrates to the other one by ${capabilities.join(' and ')}, and is intact there`, async () => {
      await finish(await inPostcopy({ capabilities }))
    })
  }

  it('that writes more than a slow link carries migrates by postcopy, but not by precopy', async () => {
    const hosts = twoHosts()
    const hotPages = 8 * 256
    const pair = await guestsOn(hosts, {
      ram: '12M',
      workload: 'random:hot=8M,writes=100,rate=20000',
      parameters: { 'max-bandwidth': 0, 'max-postcopy-bandwidth': 0 },
    })
    hosts.a.limitBandwidth(100e6)
    await begin(pair)
    await both(pair, 'active')
    const { source } = pair
    // Dirty pages at the start of each round. The guest wrote them during the previous round, which
    // was equally long, so their number stays about the same.
    const remaining: number[] = []
    while (remaining.length < 5) {
      const { status, ram } = (await source.queryMigrate()).value
      assert.equal(status, 'active')
      if (ram === undefined || ram['dirty-sync-count'] === 0) continue
      const round = ram['dirty-sync-count'] - 1
      // The round counter is updated a moment before the number of pages.
      remaining[round] = Math.max(remaining[round] ?? 0, ram.remaining / 4096)
    }
    const complete = remaining.slice(0, 4)
    assert(
      complete.every((pages) => pages > hotPages / 2),
      complete.join(),
    )
    await source.command('migrate_start_postcopy')
    await both(pair, 'completed', 'postcopy-paused', 'failed')
    await finish(pair)
  })
})

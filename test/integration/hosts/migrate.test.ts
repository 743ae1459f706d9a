/** Guests between two hosts that the test makes: each a network namespace of its own. */
import assert from 'node:assert/strict'
import { requires } from '../../support/requires.js'
import { assertWhole, begin, guestsOn, twoHosts } from '../../support/two-hosts.js'

describe('a guest on one of two hosts', () => {
  before(function () {
    requires(this, 'root', 'ip')
  })

  for (const capabilities of [['postcopy-ram'], ['postcopy-ram', 'postcopy-preempt']]) {
    it(`goes to the other one by ${capabilities.join(' and ')}, and is whole there`, async () => {
      const hosts = twoHosts()
      const pair = guestsOn(hosts, { capabilities })
      await begin(hosts, pair)
      await pair.source.command('migrate_start_postcopy')
      assert.equal(await pair.source.reached('source', ['completed']), 'completed')
      assert.equal(await pair.destination.reached('destination', ['completed']), 'completed')
      const { value } = await pair.destination.queryMigrate()
      assert.deepEqual(value['socket-address']?.[0]?.type, 'inet')
      await assertWhole(pair.destination)
    })
  }
})

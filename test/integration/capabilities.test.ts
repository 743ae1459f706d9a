/** Capabilities that the two sides do not share, or that do not exist, are refused. */
import assert from 'node:assert/strict'
import { Source } from '../../src/source/source.js'
import { machines } from '../support/machine-pair.js'
import { ended, postcopy, standstill, startPair } from '../support/migration.js'

describe('capabilities that differ', () => {
  for (const [who, source, destination, code] of [
    ['source', postcopy, {}, 'ERR_PEER_REFUSED'],
    ['destination', {}, postcopy, 'ERR_CONNECTION_CLOSED'],
  ] as const) {
    it(`are refused early if only the ${who} has postcopy-ram, and the guest continues`, async () => {
      const { here, there } = machines()
      const pair = await startPair(here, there, {
        source: { capabilities: source, parameters: standstill },
        destination: { capabilities: destination },
      })
      await Promise.all([ended(pair.source), ended(pair.destination)])
      assert.deepEqual([pair.source.state, pair.destination.state], ['failed', 'failed'])
      assert.equal(pair.destination.error?.code, 'ERR_PEER_CAPABILITY')
      assert.match(pair.destination.error.message, /set it to the same value on both ends/)
      assert.equal(pair.source.error?.code, code)
      assert.deepEqual([here.running, here.stops, there.starts], [true, 0, 0])
      const fresh = machines().here
      assert(here.content('ram').equals(fresh.content('ram')), 'its memory is unchanged')
    })
  }

  it('are not accepted under any other name', () => {
    const { here } = machines()
    const uri = 'tcp:127.0.0.1:1'
    const capabilities = { multifd: true } as object
    assert.throws(() => Source.migrate(here, { uri, capabilities }), {
      code: 'ERR_UNKNOWN_CAPABILITY',
      message: /no capability "multifd"; there are: postcopy-ram,/,
    })
  })
})

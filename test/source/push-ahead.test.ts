import assert from 'node:assert/strict'
import { PageOrder } from '../../src/ram/page-order.js'
import { PING_BYTES } from '../../src/source/push.js'
import { Replay } from '../../src/source/replay.js'
import { Rig, whileLoading } from './push-rig.js'
import { pagesOf, tracked } from './support.js'

describe('the read-ahead of Push', () => {
  const cases: readonly [string, readonly number[], number, string[]][] = [
    ['forward, up to the end of the block', [59, 60, 61], 256, ['ram:61', 'ram:62', 'ram:63']],
    ['backward, down to the begin of the block', [4, 3, 2], 256, ['ram:2', 'ram:1', 'ram:0']],
    ['by steps', [57, 59, 61], 256, ['ram:61', 'ram:63']],
    ['not further than configured', [0, 1, 2], 1, ['ram:2', 'ram:3']],
    ['not at all if it is off', [0, 1, 2], 0, ['ram:2']],
  ]
  for (const [title, requests, most, sent] of cases) {
    it(`continues requests ${title}`, async () => {
      const block = tracked(64)
      const rig = new Rig([block], { 'x-read-ahead-pages': most })
      await whileLoading(rig, () => {
        assert.deepEqual(rig.request(block, ...requests).at(-1), sent)
      })
      assert.equal(rig.stream.pages.length, 64)
    })
  }

  it('expects whole host pages', async () => {
    const block = tracked(32, 4)
    const rig = new Rig([block], { 'x-read-ahead-pages': 2 })
    await whileLoading(rig, () => {
      assert.deepEqual(rig.request(block, 0, 4, 8).at(-1), pagesOf('ram', 8, 20))
    })
  })
})

describe('the replay of Push', () => {
  it('precedes the sweep, needs no quiet, and records the requests', async () => {
    const block = tracked(16)
    const order = new PageOrder([block.block])
    order.add(0, 9, 11)
    const replay = Replay.of(order.buffer, [block])
    const rig = new Rig([block], { 'x-push-after-quiet-ms': 50, 'x-read-ahead-pages': 0 }, replay)
    rig.onWait = () => {
      if (rig.signal.timeoutsMs.length === 1) rig.request(block, 4)
    }
    await rig.run()
    assert.deepEqual(rig.stream.pages.slice(0, 4), ['ram:9', 'ram:10', 'ram:4', 'ram:5'])
    assert.equal(rig.counters.replayedPages, 2)
    assert.deepEqual(order.toArray(), [0, 9, 2, 0, 4, 1])
  })
})

describe('Push.drain', () => {
  it('waits until everything that was sent before it is placed', async () => {
    const rig = new Rig([tracked(4)])
    rig.link.write(new Uint8Array(PING_BYTES))
    rig.channel.written.length = 0
    rig.onWait = () => rig.pong()
    assert.equal(await rig.push.drain(rig.link), true)
    assert.deepEqual(rig.stream.elements, ['ping'])
  })

  it('gives up after a time without a pong', async () => {
    const rig = new Rig([tracked(4)])
    rig.link.write(new Uint8Array(PING_BYTES))
    assert.equal(await rig.push.drain(rig.link), false)
    assert.deepEqual(rig.signal.timeoutsMs, [500])
  })

  it('ends with the reason for which the migration cannot continue', async () => {
    const rig = new Rig([tracked(4)])
    rig.link.write(new Uint8Array(PING_BYTES))
    rig.failure = new Error('gone')
    await assert.rejects(rig.push.drain(rig.link), rig.failure)
  })
})

/** Which pages a Placement takes, before and after memory is armed; see also placement.test.ts. */
import assert from 'node:assert/strict'
import type { DestinationBlock } from '../../src/destination/block.js'
import { Placement } from '../../src/destination/placement.js'
import { createCounters } from '../../src/migration/counters.js'
import { bytesAt } from '../support/memory-kinds.js'
import { Parked, openUffd } from '../support/park.js'
import { concat, pageRecord, record, zeroRecord } from '../support/records.js'
import { PAGE, destinationBlock, discardedBlock, fillsOf, page } from './support.js'

function placementOf(...targets: readonly DestinationBlock[]) {
  const counters = createCounters()
  const placement = new Placement(targets, counters)
  return {
    counters,
    placement,
    /** Takes records of the first block. @returns bytes taken */
    take: (bytes: Uint8Array, channel: 'main' | 'preempt' = 'main'): number => {
      const [target] = targets
      assert(target !== undefined)
      return placement.records(channel, target, bytes, 0, bytes.length)
    },
    arm: (): void => {
      placement.arm(openUffd())
    },
  }
}

describe('Placement before memory is armed', () => {
  it('loads pages and zero pages, also again, and notes which are zero', () => {
    const ram = destinationBlock(4)
    const { take, counters } = placementOf(ram)
    const bytes = concat([pageRecord(0, page(5)), zeroRecord(1), pageRecord(3, page(6))])
    assert.equal(take(bytes), bytes.length)
    assert.deepEqual(
      [...ram.received.runs()],
      [
        [0, 2],
        [3, 4],
      ],
    )
    assert.deepEqual([...ram.zeroed.runs()], [[1, 2]])
    take(concat([zeroRecord(0), pageRecord(1, page(7))]))
    assert.deepEqual(fillsOf(ram), [0, 7, 0, 6])
    assert.equal(ram.zeroed.test(1), false)
    const { normalPages, zeroPages, precopiedPages } = counters
    assert.deepEqual([normalPages, zeroPages, precopiedPages], [3, 2, 5])
  })

  it('takes no byte of a record that is incomplete, or outside of the block', () => {
    const ram = destinationBlock(4)
    const { take } = placementOf(ram)
    const whole = pageRecord(3, page(1))
    assert.equal(take(concat([whole, whole.subarray(0, 50)])), whole.length)
    assert.equal(take(concat([whole, pageRecord(4, page(9))])), whole.length)
    assert.equal(take(record(0x10)), 0)
    assert.equal(bytesAt(ram.block.region, 4 * PAGE, 1)[0], 0, 'after the block')
  })

  it('places pages of records with a name', () => {
    const ram = destinationBlock(4)
    const { placement } = placementOf(ram)
    const bytes = concat([new Uint8Array(3), page(8)])
    placement.page('main', ram, 2 * PAGE, bytes, 3)
    placement.zero('main', ram, 3 * PAGE)
    assert.deepEqual(fillsOf(ram), [0, 0, 8, 0])
    for (const place of [
      () => placement.page('main', ram, 4 * PAGE, bytes, 3),
      () => placement.zero('main', ram, 4 * PAGE),
    ]) {
      assert.throws(place, { code: 'ERR_PEER_PAGE' }, 'after the block')
    }
    assert.deepEqual([...ram.received.runs()], [[2, 4]])
  })
})

describe('Placement after memory is armed', () => {
  it('places each page once, and keeps the one that is here', () => {
    const ram = discardedBlock(4)
    const { take, arm, counters } = placementOf(ram)
    arm()
    take(concat([pageRecord(0, page(5)), zeroRecord(1)]))
    assert.throws(() => take(pageRecord(0, page(6))), {
      code: 'ERR_PEER_PAGE',
      message: /the page at 0 of "ram" was received twice/,
    })
    assert.throws(() => take(zeroRecord(0)), { code: 'ERR_PEER_PAGE' })
    assert.deepEqual([...bytesAt(ram.block.region, 0, 1)], [5])
    assert.deepEqual([...ram.received.runs()], [[0, 2]])
    const { normalPages, zeroPages, precopiedPages } = counters
    assert.deepEqual([normalPages, zeroPages, precopiedPages], [1, 1, 0])
  })

  it('remembers which pages precopy had brought', () => {
    const ram = destinationBlock(4)
    const { take, arm } = placementOf(ram)
    take(pageRecord(0, page(5)))
    ram.discarded.setRange(1, 4)
    arm()
    take(pageRecord(2, page(6)))
    assert.deepEqual([...ram.precopied.runs()], [[0, 1]])
  })

  it('wakes a thread that waits for a page that is here', async () => {
    const ram = discardedBlock(4)
    const uffd = openUffd({ optional: ['THREAD_ID'] })
    const { placement } = placementOf(ram)
    placement.arm(uffd)
    const thread = new Parked(ram.block.region, 'read', PAGE)
    await new Promise<void>((resolve) => {
      const stop = uffd.watch(() => {
        stop()
        resolve()
      })
    })
    // As placed by another worker that did not wake the thread.
    uffd.copy(ram.block.region.address + PAGE, page(3), { dontWake: true })
    ram.received.set(1)
    placement.resolveReceived(ram, 1)
    assert.equal(await thread.result, 'done')
  })

  it('places a received zero page at a fault, a host page as a whole', () => {
    const [small, large] = [discardedBlock(4), discardedBlock(4, 2, 'rom')]
    const { placement, arm } = placementOf(small, large)
    for (const target of [small, large]) {
      target.received.setAll()
      target.zeroed.setAll()
    }
    arm()
    placement.resolveReceived(small, 1)
    placement.resolveReceived(large, 2)
    assert.deepEqual([...small.block.region.mincore(0, 4 * PAGE)], [0, 1, 0, 0])
    assert.deepEqual([...large.block.region.mincore(0, 4 * PAGE)], [0, 0, 1, 1])
    assert.deepEqual(
      [...small.zeroed.runs()],
      [
        [0, 1],
        [2, 4],
      ],
    )
    assert.deepEqual([...large.zeroed.runs()], [[0, 2]])
    placement.disarm()
  })

  it('does not place anything once it is disarmed', () => {
    const ram = discardedBlock(4)
    const { placement, arm } = placementOf(ram)
    ram.received.setAll()
    ram.zeroed.setAll()
    arm()
    placement.disarm()
    placement.resolveReceived(ram, 1)
    assert.equal(ram.zeroed.count(), 4)
    assert.deepEqual(fillsOf(ram), [0, 0, 0, 0])
  })
})

describe('Placement of host pages', () => {
  const rig = () => {
    const ram = discardedBlock(8, 2)
    const made = placementOf(ram)
    made.arm()
    return { ram, ...made }
  }

  it('places a host page with its last target page, in any order', () => {
    const { ram, take, counters } = rig()
    take(pageRecord(3, page(4)))
    assert.equal(ram.received.count(), 0)
    assert.deepEqual([...ram.block.region.mincore(2 * PAGE, 2 * PAGE)], [0, 0])
    take(pageRecord(2, page(5)))
    assert.deepEqual([...ram.received.runs()], [[2, 4]])
    assert.equal(counters.placeCalls, 1)
    assert.deepEqual(
      [bytesAt(ram.block.region, 2 * PAGE, 1)[0], bytesAt(ram.block.region, 3 * PAGE, 1)[0]],
      [5, 4],
    )
  })

  it('fills zero target pages with zeros, not with what was there before', () => {
    const { ram, take } = rig()
    take(concat([pageRecord(0, page(4)), pageRecord(1, page(5))]))
    take(concat([zeroRecord(2), pageRecord(3, page(6))]))
    take(concat([zeroRecord(4), zeroRecord(5)]))
    const own = [2, 3, 4, 5].map((at) => bytesAt(ram.block.region, at * PAGE, 1)[0])
    assert.deepEqual(own, [0, 6, 0, 0])
    assert.equal(ram.received.count(), 6)
  })

  it('assembles one on each channel', () => {
    const { ram, take } = rig()
    take(pageRecord(0, page(1)))
    take(pageRecord(2, page(3)), 'preempt')
    take(pageRecord(1, page(2)))
    take(pageRecord(3, page(4)), 'preempt')
    assert.deepEqual([...ram.received.runs()], [[0, 4]])
    const own = [0, 1, 2, 3].map((at) => bytesAt(ram.block.region, at * PAGE, 1)[0])
    assert.deepEqual(own, [1, 2, 3, 4])
  })

  for (const [what, second] of [
    ['of another host page', pageRecord(2, page(1))],
    ['a second time', pageRecord(0, page(1))],
  ] as const) {
    it(`rejects a target page ${what} while one is incomplete`, () => {
      const { ram, take } = rig()
      take(pageRecord(0, page(1)))
      assert.throws(() => take(second), { code: 'ERR_PEER_PAGE' })
      assert.equal(ram.received.count(), 0)
    })
  }

  it('rejects a host page that is here', () => {
    const { take } = rig()
    take(concat([pageRecord(0, page(1)), pageRecord(1, page(2))]))
    assert.throws(() => take(pageRecord(0, page(1))), {
      code: 'ERR_PEER_PAGE',
      message: /^a page of "ram" was received again after its host page was placed/,
    })
  })
})

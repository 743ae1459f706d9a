/** The RAM of a destination before pages are placed, and whether all of them are. */
import assert from 'node:assert/strict'
import {
  type DestinationBlock,
  checkComplete,
  isComplete,
  isCompleteBut,
  takeLeftOut,
} from '../../src/destination/block.js'

import { IncomingRam } from '../../src/destination/incoming-ram.js'
import { Placement } from '../../src/destination/placement.js'
import { createCounters } from '../../src/migration/counters.js'
import { PageBitmap } from '../../src/ram/page-bitmap.js'
import { missingChecksum } from '../../src/ram/index.js'
import { openUffd } from '../support/park.js'
import { concat, pageRecord, zeroRecord } from '../support/records.js'
import { PAGE, destinationBlock, discardedBlock, fillsOf, page } from './support.js'

const PAGES = 8

function memoryOf(...targets: readonly DestinationBlock[]) {
  const counters = createCounters()
  const placement = new Placement(targets, counters)
  return {
    counters,
    placement,
    memory: new IncomingRam(targets, counters),
    load: (target: DestinationBlock, bytes: Uint8Array): void => {
      assert.equal(placement.records('main', target, bytes, 0, bytes.length), bytes.length)
    },
  }
}

describe('IncomingRam', () => {
  it('makes discarded pages missing again', () => {
    const ram = destinationBlock(4)
    const { memory, load, counters } = memoryOf(ram)
    load(ram, concat([pageRecord(0, page(5)), zeroRecord(1), pageRecord(2, page(6))]))
    memory.discard(ram, PAGE, 3 * PAGE)
    assert.deepEqual(fillsOf(ram), [5, 0, 0, 0])
    assert.deepEqual([...ram.received.runs()], [[0, 1]])
    assert.deepEqual([...ram.zeroed.runs()], [])
    assert.deepEqual([...ram.discarded.runs()], [[1, 4]])
    assert.equal(counters.discardedPages, 3)
  })

  it('discards whole host pages only', () => {
    const ram = destinationBlock(8, 4)
    const { memory, counters } = memoryOf(ram)
    for (const [start, length] of [
      [PAGE, 4 * PAGE],
      [4 * PAGE, 2 * PAGE],
    ] as const) {
      assert.throws(() => memory.discard(ram, start, length), { code: 'ERR_PEER_DISCARD' })
    }
    memory.discard(ram, 4 * PAGE, 4 * PAGE)
    assert.equal(counters.discardedPages, 4)
  })

  it('limits the discarded pages by its own count: the counter is only a copy', () => {
    const ram = destinationBlock(2)
    const { memory, counters } = memoryOf(ram)
    for (let time = 0; time < 64; time += 1) {
      memory.discard(ram, 0, 2 * PAGE)
      counters.discardedPages = 0
    }
    assert.throws(() => memory.discard(ram, 0, PAGE), { code: 'ERR_PEER_DISCARD' })
  })

  it('forgets all pages when it is emptied', () => {
    const [ram, rom] = [destinationBlock(2), destinationBlock(2, 1, 'rom')]
    const { memory, load } = memoryOf(ram, rom)
    load(ram, concat([pageRecord(0, page(5)), zeroRecord(1)]))
    rom.block.region.write(0, page(9))
    memory.empty()
    assert.deepEqual(
      [fillsOf(ram), fillsOf(rom)],
      [
        [0, 0],
        [0, 0],
      ],
    )
    assert.deepEqual([ram.received.count(), ram.zeroed.count()], [0, 0])
  })
})

describe('the blocks of a destination', () => {
  it('are complete when the last page of the last block is here', () => {
    const [ram, rom] = [discardedBlock(70), discardedBlock(2, 1, 'rom')]
    const blocks = [ram, rom]
    ram.received.setRange(0, 69)
    rom.received.set(1)
    assert.throws(() => checkComplete(blocks), {
      code: 'ERR_PEER_INCOMPLETE',
      message: new RegExp(`1 pages of "ram".*the first at ${69 * PAGE}`),
    })
    ram.received.set(69)
    assert.equal(isComplete(blocks), false)
    assert.throws(() => checkComplete(blocks), { message: /1 pages of "rom".*the first at 0/ })
    rom.received.set(0)
    checkComplete(blocks)
    assert.equal(isComplete(blocks), true)
  })

  it('have no old content in pages that the source has left out, even of huge pages', () => {
    const ram = hugeBlock(PAGES)
    const { memory, placement, load } = memoryOf(ram)
    memory.empty()
    assert.deepEqual(fillsOf(ram), Array(PAGES).fill(9), 'huge pages stay allocated')
    load(ram, pageRecord(0, page(5)))
    memory.discard(ram, PAGE, (PAGES - 2) * PAGE)
    const leftOut = new PageBitmap(PAGES)
    leftOut.setRange(1, PAGES)
    const checksum = missingChecksum([leftOut])
    // The last page was neither sent nor discarded: the checksum is right, but it has old content.
    assert.equal(isCompleteBut([ram], checksum), true)
    assert.throws(() => placement.arm(openUffd()), { code: 'ERR_PEER_DISCARD' })
    memory.discard(ram, (PAGES - 1) * PAGE, PAGE)
    const uffd = openUffd()
    placement.arm(uffd)
    // A recovery continues in a new worker, which does not know what was discarded.
    const recovered = { ...ram, discarded: new PageBitmap(PAGES) }
    const later = memoryOf(recovered).placement
    later.takeOver(uffd)
    assert.equal(isCompleteBut([recovered], checksum), true)
    later.disarm()
    takeLeftOut([recovered])
    assert.deepEqual(fillsOf(ram), [5, ...Array<number>(PAGES - 1).fill(0)])
  })
})

/** A block with old content that is not emptied at ADVISE, as huge pages are not. */
function hugeBlock(pages: number): DestinationBlock {
  const ram = destinationBlock(pages)
  for (let at = 0; at < pages; at += 1) ram.block.region.write(at * PAGE, page(9))
  Object.defineProperty(ram.block.region, 'pageSizeBytes', { value: 2 * 2 ** 20 })
  return ram
}

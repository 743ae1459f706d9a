import assert from 'node:assert/strict'
import { createCounters } from '../../src/migration/counters.js'
import type { TrackedBlock } from '../../src/ram/dirty-log.js'
import { DiscardAnnouncer, trackedRanges } from '../../src/source/discard-announcer.js'
import { SourceLink } from '../../src/source/link.js'
import { Signal } from '../../src/source/signal.js'
import { encode, encodeRamDiscard } from '../../src/stream/index.js'
import { RecordingChannel } from '../support/recording-channel.js'
import { PAGE, tracked } from './support.js'

type Range = readonly [first: number, end: number]

/** The encoded discard of these ranges of target pages. */
function discard(name: string, ...ranges: readonly Range[]): number[] {
  const bytes = ranges.flatMap(([first, end]) => [first * PAGE, (end - first) * PAGE])
  return [...encode((out) => encodeRamDiscard(out, name, bytes))]
}

function announcer(
  blocks: readonly TrackedBlock[],
  loadRanges: Parameters<typeof trackedRanges>[1] = [],
) {
  const channel = new RecordingChannel()
  const link = new SourceLink(channel.asChannel, 64, createCounters(), new Signal(), () => 0, true)
  const one = new DiscardAnnouncer(blocks, trackedRanges(blocks, loadRanges))
  const written = (write: () => void): number[] => {
    channel.written.length = 0
    write()
    return [...channel.bytes]
  }
  return {
    one,
    announce: () => written(() => one.announce(link)),
    rest: () => written(() => one.announceRest(link)),
  }
}

describe('DiscardAnnouncer', () => {
  it('names each dirty page once, those written again too', () => {
    const block = tracked(200)
    block.dirty.clearRange(0, 200)
    block.dirty.setRange(3, 6)
    block.dirty.set(199)
    const { announce, rest } = announcer([block])
    assert.deepEqual(announce(), discard('ram', [3, 6], [199, 200]))
    assert.deepEqual(announce(), discard('ram'))
    block.dirty.set(8)
    assert.deepEqual(announce(), discard('ram', [8, 9]))
    block.dirty.setRange(7, 10)
    assert.deepEqual(rest(), discard('ram', [7, 8], [9, 10]))
    assert.equal(block.dirty.count(), 7, 'they stay dirty until they are sent')
  })

  it('names whole host pages, and makes them dirty', () => {
    const block = tracked(16, 8)
    block.dirty.clearRange(0, 16)
    block.dirty.set(9)
    const { announce } = announcer([block])
    assert.deepEqual(announce(), discard('ram', [8, 16]))
    assert.equal(block.dirty.count(), 8)
  })

  it('names every block, in order', () => {
    const blocks = [tracked(2), tracked(4, 1, 'rom')]
    const { announce } = announcer(blocks)
    assert.deepEqual(announce(), [...discard('ram', [0, 2]), ...discard('rom', [0, 4])])
  })

  it('leaves out what is sent before the devices, until the guest is stopped', () => {
    const blocks = [tracked(8), tracked(8, 1, 'rom')]
    const range = { block: 'ram', offset: 2 * PAGE, lengthBytes: 2 * PAGE }
    const { announce, rest } = announcer(blocks, [range])
    assert.deepEqual(announce(), [...discard('ram', [0, 2], [4, 8]), ...discard('rom', [0, 8])])
    blocks[0]?.dirty.clear(2)
    assert.deepEqual(rest(), discard('ram', [3, 4]))
  })

  it('is nearly done when each block has few pages that were not named', () => {
    const blocks = [tracked(200), tracked(200, 1, 'rom')]
    const [ram, rom] = blocks
    assert(ram !== undefined && rom !== undefined)
    for (const { dirty } of blocks) dirty.clearRange(0, 200)
    const { one, announce } = announcer(blocks)
    assert.equal(one.isNearlyDone, false, 'before the first round')
    announce()
    assert.equal(one.isNearlyDone, true)
    ram.dirty.setRange(0, 63)
    assert.equal(one.isNearlyDone, true)
    rom.dirty.setRange(0, 64)
    assert.equal(one.isNearlyDone, false)
    announce()
    assert.equal(one.isNearlyDone, true)
  })
})

describe('trackedRanges', () => {
  it('has the target pages of known blocks with small host pages', () => {
    const [ram, large] = [tracked(8), tracked(8, 8, 'large')]
    const range = { offset: PAGE, lengthBytes: 3 * PAGE }
    const ranges = trackedRanges(
      [ram, large],
      ['ram', 'large', 'unknown'].map((block) => ({ block, ...range })),
    )
    assert.deepEqual(ranges, [{ tracked: ram, first: 1, end: 4 }])
  })
})

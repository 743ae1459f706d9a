import assert from 'node:assert/strict'
import { createCounters } from '../../src/migration/counters.js'
import type { TrackedBlock } from '../../src/ram/dirty-log.js'
import { PageOrder } from '../../src/ram/page-order.js'
import { RamSender } from '../../src/source/ram-sender.js'
import { Replay } from '../../src/source/replay.js'
import { decodeRecords } from '../support/records.js'
import { tracked } from './support.js'

/** Bytes of a PART besides its records. */
const HEAD_BYTES = 5
const TAIL_BYTES = 13

type Range = readonly [block: number, first: number, end: number]

function orderOf(blocks: readonly TrackedBlock[], ranges: readonly Range[]): PageOrder {
  const order = new PageOrder(blocks.map(({ block }) => block))
  for (const range of ranges) order.add(...range)
  return order
}

function replayOf(blocks: readonly TrackedBlock[], order: PageOrder): Replay {
  const replay = Replay.of(order.buffer, blocks)
  assert(replay !== undefined)
  return replay
}

/** Packs PARTs until no page is left; returns the pages of each. */
function packAll(
  blocks: readonly TrackedBlock[],
  replay: Replay,
  maxPages: number,
): { parts: string[][]; replayedPages: number } {
  const counters = createCounters()
  const ram = new RamSender(blocks, counters)
  for (const { dirty } of blocks) dirty.setAll()
  ram.recount()
  ram.beginPostcopy()
  const out = new Uint8Array(ram.batchBytes(maxPages))
  const parts: string[][] = []
  let name = ''
  for (let bytes = ram.packReplay(out, replay, maxPages); bytes > 0;) {
    const records = decodeRecords(out.slice(HEAD_BYTES, bytes - TAIL_BYTES))
    parts.push(
      records.map((record) => {
        name = record.name ?? name
        return `${name}:${record.page}`
      }),
    )
    bytes = ram.packReplay(out, replay, maxPages)
  }
  return { parts, replayedPages: counters.replayedPages }
}

describe('Replay', () => {
  it('pushes pages in their order, in batches, and nothing else', () => {
    const blocks = [tracked(64), tracked(64, 1, 'rom')]
    const order = orderOf(blocks, [
      [0, 50, 53],
      [1, 7, 8],
      [0, 3, 4],
    ])
    const { parts, replayedPages } = packAll(blocks, replayOf(blocks, order), 2)
    assert.deepEqual(parts, [['ram:50', 'ram:51'], ['ram:52', 'rom:7'], ['ram:3']])
    assert.equal(replayedPages, 5)
  })

  it('pushes them in the order of another page order', () => {
    const blocks = [tracked(64)]
    const ranges: readonly Range[] = [1, 40, 20].map((page) => [0, page, page + 1])
    const reversed = orderOf(blocks, [...ranges].reverse())
    const { parts } = packAll(blocks, replayOf(blocks, reversed), 64)
    assert.deepEqual(parts, [['ram:20', 'ram:40', 'ram:1']])
  })

  it('omits pages that are not owed any more', () => {
    const blocks = [tracked(64)]
    const replay = replayOf(blocks, orderOf(blocks, [[0, 10, 14]]))
    const [ram] = blocks
    ram?.dirty.clear(10)
    ram?.dirty.clear(12)
    assert.deepEqual([replay.peek()?.first, replay.peek()?.end], [11, 14])
    ram?.dirty.clearRange(11, 14)
    assert.equal(replay.peek(), undefined)
  })

  it('pushes whole host pages, which may be larger than the recorded ones', () => {
    const blocks = [tracked(64, 8)]
    const order = orderOf(blocks, [
      [0, 19, 20],
      [0, 3, 9],
      [0, 22, 23],
    ])
    const { parts, replayedPages } = packAll(blocks, replayOf(blocks, order), 8)
    const hostPage = (index: number): string[] =>
      Array.from({ length: 8 }, (_, page) => `ram:${index * 8 + page}`)
    assert.deepEqual(parts, [2, 0, 1].map(hostPage))
    assert.equal(replayedPages, 3)
  })

  it('appends new requests to the order, and does not push them', () => {
    const blocks = [tracked(64)]
    const [ram] = blocks
    assert(ram !== undefined)
    const order = orderOf(blocks, [[0, 5, 6]])
    const replay = replayOf(blocks, order)
    replay.note(ram, 9, 10)
    replay.note(ram, 5, 6)
    replay.note(ram, 9, 11)
    assert.deepEqual(order.toArray(), [0, 5, 1, 0, 9, 2])
    assert.deepEqual(packAll(blocks, replay, 64).parts, [['ram:5']])
  })

  it('is undefined without an order', () => {
    assert.equal(Replay.of(undefined, [tracked(8)]), undefined)
  })
})

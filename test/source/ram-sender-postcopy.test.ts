import assert from 'node:assert/strict'
import { decodeRecords } from '../support/records.js'
import { FRAME_BYTES, RECORD_BYTES, filled, pagesOf, senderOf, tracked } from './support.js'

describe('RamSender in postcopy', () => {
  it('sends whole host pages, also beyond the limit', () => {
    const block = tracked(32, 8)
    const { ram, send } = senderOf([block])
    ram.beginPostcopy()
    assert.deepEqual(
      send((out) => ram.packPart(out, 1)),
      pagesOf('ram', 0, 8),
    )
    assert.deepEqual(
      send((out) => ram.packPart(out, 9)),
      pagesOf('ram', 8, 24),
    )
  })

  it('names the first record again, because the destination has forgotten the block', () => {
    const { ram } = senderOf([tracked(3)])
    const out = new Uint8Array(ram.batchBytes(8))
    ram.packPart(out, 1)
    ram.beginPostcopy()
    const [first] = decodeRecords(out.slice(5, ram.packPart(out, 1) - 13))
    assert.deepEqual([first?.name, first?.page], ['ram', 1])
  })

  it('continues its sweep after a requested page, and starts over after the last block', () => {
    const blocks = [tracked(4), tracked(4, 1, 'rom')]
    const [, rom] = blocks
    assert(rom !== undefined)
    const { ram, send } = senderOf(blocks)
    ram.beginPostcopy()
    ram.request(rom, 1, 2)
    assert.deepEqual(
      send((out) => ram.packRequested(out)),
      ['rom:1'],
    )
    assert.deepEqual(
      send((out) => ram.packPart(out, 64)),
      ['rom:2', 'rom:3', ...pagesOf('ram', 0, 4), 'rom:0'],
    )
    assert.equal(ram.remainingPages, 0)
  })

  it('sends no page a second time', () => {
    const block = tracked(4)
    const { ram, send } = senderOf([block])
    ram.beginPostcopy()
    ram.request(block, 2, 3)
    ram.expect(block, 2, 4)
    send((out) => ram.packPart(out, 64))
    assert.deepEqual(
      send((out) => ram.packRequested(out, 4)),
      [],
    )
    assert.deepEqual(
      send((out) => ram.packAhead(out, 4)),
      [],
    )
    assert.deepEqual([ram.requestsWaiting, ram.aheadWaiting], [0, 0])
  })

  it('sends expected pages after requested ones, up to a limit', () => {
    const block = tracked(16)
    const { ram, send, stream } = senderOf([block])
    ram.beginPostcopy()
    ram.request(block, 3, 4)
    ram.expect(block, 8, 12)
    assert.deepEqual(
      send((out) => ram.packRequested(out, 3)),
      ['ram:3', ...pagesOf('ram', 8, 11)],
    )
    assert.deepEqual(stream.elements.filter((one) => one === 'PART').length, 1)
    assert.deepEqual(
      send((out) => ram.packRequested(out, 3)),
      [],
      'nothing is requested',
    )
    assert.deepEqual(
      send((out) => ram.packAhead(out, 0)),
      [],
    )
    assert.deepEqual(
      send((out) => ram.packAhead(out, 3)),
      ['ram:11'],
    )
  })

  it('keeps a requested page for which the buffer has no room', () => {
    const block = filled(8)
    const { ram, send } = senderOf([block])
    ram.beginPostcopy()
    ram.request(block, 5, 8)
    const room = new Uint8Array(FRAME_BYTES + 4 + 2 * RECORD_BYTES)
    assert.deepEqual(
      send((out) => ram.packRequested(out), room),
      ['ram:5', 'ram:6'],
    )
    assert.equal(ram.requestsWaiting, 1)
    assert.deepEqual(
      send((out) => ram.packRequested(out), room),
      ['ram:7'],
    )
  })

  it('packs bare records for the preempt channel, which names its blocks itself', () => {
    const block = tracked(8)
    const { ram, send } = senderOf([block])
    ram.beginPostcopy()
    send((out) => ram.packPart(out, 1))
    const out = new Uint8Array(ram.batchBytes(8))
    ram.request(block, 4, 6)
    const urgent = decodeRecords(out.slice(0, ram.packUrgent(out)))
    assert.deepEqual(
      urgent.map(({ name, page }) => [name, page]),
      [
        ['ram', 4],
        [undefined, 5],
      ],
    )
    const [next] = decodeRecords(out.slice(5, ram.packPart(out, 1) - 13))
    assert.deepEqual([next?.name, next?.page], [undefined, 6])
  })
})

describe('the END section of RamSender', () => {
  it('has all remaining pages, in as many pieces as the buffer needs', () => {
    const block = filled(5)
    const { ram, send, stream } = senderOf([block])
    ram.beginRound()
    const room = new Uint8Array(FRAME_BYTES + 4 + 2 * RECORD_BYTES)
    const pieces: [string[], boolean][] = []
    const last = { complete: false }
    while (!last.complete) {
      const pages = send((out) => {
        const piece = ram.packEnd(out, pieces.length === 0)
        last.complete = piece.complete
        return piece.lengthBytes
      }, room)
      pieces.push([pages, last.complete])
    }
    assert.deepEqual(pieces, [
      [pagesOf('ram', 0, 2), false],
      [pagesOf('ram', 2, 4), false],
      [pagesOf('ram', 4, 5), true],
    ])
    assert.deepEqual(stream.elements, ['END', ...pagesOf('ram', 0, 5)])
    assert.equal(stream.leftoverBytes, 0)
  })

  it('is complete at once if no page remains', () => {
    const block = tracked(4)
    block.dirty.clearRange(0, 4)
    const { ram, send, stream } = senderOf([block])
    send((out) => {
      const { lengthBytes, complete } = ram.packEnd(out, true)
      assert.equal(complete, true)
      return lengthBytes
    })
    assert.deepEqual(stream.elements, ['END'])
    assert.equal(stream.leftoverBytes, 0)
  })
})

import assert from 'node:assert/strict'
import { createCounters } from '../../src/migration/counters.js'
import { RamSender } from '../../src/source/ram-sender.js'
import { decodeRecords } from '../support/records.js'
import {
  FRAME_BYTES,
  PAGE,
  RECORD_BYTES,
  ZERO_RECORD_BYTES,
  filled,
  pagesOf,
  senderOf,
  tracked,
} from './support.js'

describe('RamSender in precopy', () => {
  it('sends nothing if no page is dirty', () => {
    const block = tracked(8)
    block.dirty.clearRange(0, 8)
    const { ram, send, stream } = senderOf([block])
    assert.deepEqual(
      send((out) => ram.packPart(out, 8)),
      [],
    )
    assert.deepEqual(stream.elements, [])
  })

  it('ends its sweep after the last block, until the next round begins', () => {
    const blocks = [tracked(2), tracked(2, 1, 'rom')]
    const { ram, send } = senderOf(blocks)
    const sweep = (): string[] => send((out) => ram.packPart(out, 3))
    assert.deepEqual(sweep(), ['ram:0', 'ram:1', 'rom:0'])
    blocks[0]?.dirty.set(1)
    ram.recount()
    assert.deepEqual(sweep(), ['rom:1'])
    assert.deepEqual(sweep(), [])
    ram.beginRound()
    assert.deepEqual(sweep(), ['ram:1'])
  })

  it('sends single target pages of larger host pages', () => {
    const block = tracked(16, 8)
    block.dirty.clearRange(0, 16)
    block.dirty.set(3)
    block.dirty.set(5)
    const { ram, send } = senderOf([block])
    assert.deepEqual(
      send((out) => ram.packPart(out, 1)),
      ['ram:3'],
    )
    assert.deepEqual(
      send((out) => ram.packPart(out, 1)),
      ['ram:5'],
    )
  })

  it('sends the last page of a block that fills no word of its bitmap, and nothing after it', () => {
    const block = tracked(70, 1, 'ram', { spare: 10 })
    block.dirty.clearRange(0, 69)
    // These bits belong to no page.
    block.dirty.bytes[9] = 0xff
    const { ram, send } = senderOf([block])
    assert.deepEqual(
      send((out) => ram.packPart(out, 64)),
      ['ram:69'],
    )
  })

  it('stops where the buffer is full, and continues there', () => {
    const block = filled(5)
    const { ram, send } = senderOf([block])
    const room = new Uint8Array(FRAME_BYTES + 4 + 2 * RECORD_BYTES)
    const sweep = (): string[] => send((out) => ram.packPart(out, 64), room)
    assert.deepEqual(sweep(), pagesOf('ram', 0, 2))
    assert.deepEqual(sweep(), pagesOf('ram', 2, 4))
    assert.deepEqual(sweep(), pagesOf('ram', 4, 5))
  })

  it('leaves room for the end of the section', () => {
    const { ram, send, stream } = senderOf([tracked(5)])
    const room = new Uint8Array(FRAME_BYTES + 4 + 2 * ZERO_RECORD_BYTES)
    assert.deepEqual(
      send((out) => ram.packPart(out, 64), room),
      pagesOf('ram', 0, 2),
    )
    assert.equal(stream.leftoverBytes, 0)
  })

  it('sends a page again only in the next round if it was written after it was sent', () => {
    const block = tracked(4)
    const { ram, send } = senderOf([block])
    const sweep = (pages: number): string[] => send((out) => ram.packPart(out, pages))
    assert.deepEqual(sweep(2), ['ram:0', 'ram:1'])
    block.dirty.set(0)
    ram.recount()
    assert.deepEqual(sweep(64), ['ram:2', 'ram:3'])
    ram.beginRound()
    assert.deepEqual(sweep(64), ['ram:0'])
  })

  it('names a block in its first record only', () => {
    const blocks = [tracked(2), tracked(1, 1, 'rom')]
    const { ram } = senderOf(blocks)
    const out = new Uint8Array(ram.batchBytes(8))
    const namesOf = (bytes: number): (string | undefined)[] =>
      decodeRecords(out.slice(5, bytes - 13)).map(({ name }) => name)
    assert.deepEqual(namesOf(ram.packPart(out, 1)), ['ram'])
    assert.deepEqual(namesOf(ram.packPart(out, 2)), [undefined, 'rom'])
  })

  it('counts pages by their content', () => {
    const block = tracked(4)
    block.block.region.write(2 * PAGE, Uint8Array.of(1))
    const { ram, send, counters } = senderOf([block])
    send((out) => ram.packPart(out, 3))
    const { normalPages, zeroPages, remainingPages } = counters
    assert.deepEqual([normalPages, zeroPages, remainingPages], [1, 2, 1])
  })

  it('keeps its own number of pages: the counter is only a copy', () => {
    const block = tracked(4)
    const { ram, send, counters } = senderOf([block])
    counters.remainingPages = 0
    assert.equal(ram.remainingPages, 4)
    assert.equal(send((out) => ram.packPart(out, 3)).length, 3)
    assert.equal(counters.remainingPages, 1)
  })

  it('reserves room for a host page that is larger than the batch', () => {
    const block = filled(16, 8)
    const ram = new RamSender([block], createCounters())
    ram.recount()
    ram.beginPostcopy()
    const out = new Uint8Array(ram.batchBytes(1))
    ram.packPart(out, 1)
    assert.equal(ram.remainingPages, 8)
  })
})

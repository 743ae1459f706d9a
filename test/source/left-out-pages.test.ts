/** Zero pages in postcopy: sent only on request, and never twice. */
import assert from 'node:assert/strict'
import { PageOrder } from '../../src/ram/page-order.js'
import type { SentBlock } from '../../src/source/block.js'
import { Replay } from '../../src/source/replay.js'
import { leaveOutZeroPages } from '../../src/source/zero-pages.js'
import { PAGE, pagesOf, senderOf, tracked } from './support.js'

/** A block in which only these pages hold data. */
function sparse(pages: number, dataPages: readonly number[], hostPages = 1): SentBlock {
  const block = tracked(pages, hostPages)
  block.data.clearRange(0, pages)
  for (const page of dataPages) {
    block.data.set(page)
    block.block.region.write(page * PAGE, new Uint8Array(PAGE).fill(page + 1))
  }
  return block
}

function postcopySender(block: SentBlock) {
  const sender = senderOf([block])
  const leftOut = leaveOutZeroPages([block])
  sender.ram.recount()
  sender.ram.leaveOut(new Map([[block, block.leftOut]]))
  sender.ram.beginPostcopy()
  return { ...sender, leftOut, sweep: () => sender.send((out) => sender.ram.packPart(out, 64)) }
}

describe('a source in postcopy', () => {
  it('pushes data only', () => {
    const { ram, sweep, leftOut } = postcopySender(sparse(64, [3, 40]))
    assert.equal(leftOut, 62)
    assert.equal(ram.remainingPages, 2)
    assert.deepEqual(sweep(), ['ram:3', 'ram:40'])
    assert.deepEqual(sweep(), [])
  })

  it('sends a zero page that is requested, once', () => {
    const block = sparse(64, [3])
    const { ram, send, stream } = postcopySender(block)
    ram.request(block, 10, 11)
    assert.equal(ram.remainingPages, 2)
    assert.deepEqual(
      send((out) => ram.packRequested(out)),
      ['ram:10'],
    )
    assert(stream.elements.includes('ram:10 zero'))
    ram.request(block, 10, 11)
    assert.deepEqual(
      send((out) => ram.packRequested(out)),
      [],
    )
    assert.equal(ram.remainingPages, 1)
  })

  it('sends all of a large request for zero pages', () => {
    const block = sparse(64, [3])
    const { ram, send } = postcopySender(block)
    ram.request(block, 0, 64)
    assert.deepEqual(
      send((out) => ram.packRequested(out)),
      pagesOf('ram', 0, 64),
    )
    assert.equal(ram.remainingPages, 0)
  })

  it('leaves out a larger host page only if all of it is zero', () => {
    const { sweep, leftOut } = postcopySender(sparse(32, [9], 8))
    assert.equal(leftOut, 24)
    assert.deepEqual(sweep(), pagesOf('ram', 8, 16))
  })

  it('does not leave out zero pages that the destination has', () => {
    const block = sparse(64, [3])
    block.dirty.clearRange(16, 32)
    const { leftOut } = postcopySender(block)
    assert.equal(leftOut, 47)
    assert.equal(block.leftOut.next(16, 32), -1)
  })

  it('sends a zero page that was requested before a recovery knew what is owed', () => {
    const block = sparse(64, [3])
    const { ram, send } = senderOf([block])
    ram.leaveOut(new Map([[block, block.leftOut]]))
    // It was sent, and lost with the connection.
    block.dirty.clear(20)
    ram.request(block, 20, 21)
    block.dirty.set(20)
    leaveOutZeroPages([block])
    ram.recount()
    ram.takeInRequested()
    ram.beginPostcopy()
    assert.deepEqual(
      send((out) => ram.packRequested(out)),
      ['ram:20'],
    )
  })

  it('sends nothing that is requested after the end of RAM', () => {
    const block = sparse(64, [3])
    const { ram, send, sweep, stream } = postcopySender(block)
    sweep()
    ram.request(block, 10, 11)
    assert.deepEqual(
      send((out) => ram.packEnd(out, true).lengthBytes),
      ['ram:10'],
    )
    assert(stream.elements.includes('END'))
    ram.request(block, 11, 12)
    assert.equal(ram.remainingPages, 0)
    assert.equal(block.leftOut.test(11), true, 'the checksum of what is left out has it')
  })

  it('guesses no zero page ahead of a request', () => {
    const block = sparse(64, [3])
    const { ram, send } = postcopySender(block)
    ram.request(block, 10, 11)
    ram.expect(block, 11, 20)
    assert.deepEqual(
      send((out) => ram.packRequested(out, 64)),
      ['ram:10'],
    )
    assert.equal(ram.aheadWaiting, 0)
  })

  it('pushes zero pages of a working set, which will be requested', () => {
    const block = sparse(64, [3])
    const { ram, send } = postcopySender(block)
    const order = new PageOrder([block.block])
    order.add(0, 30, 33)
    const replay = Replay.of(order.buffer, [block])
    assert(replay !== undefined)
    for (const { tracked: one, first, end } of replay.runs()) ram.takeIn(one, first, end)
    assert.deepEqual(
      send((out) => ram.packReplay(out, replay, 64)),
      pagesOf('ram', 30, 33),
    )
  })
})

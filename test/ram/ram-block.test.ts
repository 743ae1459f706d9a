import assert from 'node:assert/strict'
import { checkDiscards } from '../../src/ram/discard-budget.js'
import { RamBlock, type RamBlockDescriptor } from '../../src/ram/ram-block.js'
import { cleanups } from '../support/cleanup.js'
import { makeRegion } from '../support/memory-kinds.js'

const PAGE = 4096

function attach(options: Partial<RamBlockDescriptor> = {}): RamBlock {
  const region = makeRegion('anon', 8)
  const [block] = RamBlock.attachAll([
    { name: 'ram', regionId: region.id, lengthBytes: 8 * PAGE, ...options },
  ])
  assert(block !== undefined)
  cleanups.add(() => block.close())
  return block
}

describe('RamBlock', () => {
  it('has the page size of its region unless another one is given', () => {
    const { hostPageSize, hostPages, pageCount } = attach()
    assert.deepEqual([hostPageSize, hostPages, pageCount], [PAGE, 1, 8])
    const larger = attach({ pageSizeBytes: 4 * PAGE })
    assert.deepEqual([larger.hostPageSize, larger.hostPages, larger.pageCount], [4 * PAGE, 4, 8])
  })

  it('may be shorter than its region', () => {
    const block = attach({ lengthBytes: 3 * PAGE })
    assert.equal(block.pageCount, 3)
    assert.equal(block.region.lengthBytes, 8 * PAGE)
  })

  it('keeps its region mapped after the owner has closed it', () => {
    const region = makeRegion('anon', 1)
    const [block] = RamBlock.attachAll([{ name: 'ram', regionId: region.id, lengthBytes: PAGE }])
    assert(block !== undefined)
    region.write(0, Uint8Array.of(7))
    region.close()
    const byte = new Uint8Array(1)
    block.region.read(0, byte)
    assert.equal(byte[0], 7)
    block.close()
  })

  const refused: readonly [string, Partial<RamBlockDescriptor>][] = [
    ['longer than its region', { lengthBytes: 9 * PAGE }],
    ['of a part of a page', { lengthBytes: PAGE + 1 }],
    ['of a part of a host page', { lengthBytes: 6 * PAGE, pageSizeBytes: 4 * PAGE }],
    ['without a name', { name: '' }],
    ['with a name of more than 255 bytes', { name: 'ä'.repeat(128) }],
    ['with a name that has no bytes in UTF-8', { name: '\ud800' }],
  ]
  for (const [what, options] of refused) {
    it(`refuses a block ${what}`, () => {
      assert.throws(() => attach(options), { code: 'ERR_INVALID_BLOCK' })
    })
  }

  it('takes a name of 255 bytes', () => {
    assert.equal(attach({ name: 'ä'.repeat(127) + 'b' }).nameBytes.length, 255)
  })

  it('sums up the page sizes of all blocks, each once', () => {
    const sizes = [1, 4, 4, 2].map((pages) => attach({ pageSizeBytes: pages * PAGE }))
    assert.equal(RamBlock.pageSizeSummary(sizes), 7 * PAGE)
    assert.equal(RamBlock.pageSizeSummary([]), 0)
  })
})

describe('the limit of discards', () => {
  it('is 64 times all of RAM', () => {
    checkDiscards(64 * 10, 10)
    assert.throws(() => checkDiscards(64 * 10 + 1, 10), { code: 'ERR_PEER_DISCARD' })
  })
})

import assert from 'node:assert/strict'
import {
  checkBlocks,
  checkMachineType,
  checkPageSizes,
  findBlock,
} from '../../src/destination/agreement.js'
import { PAGE, destinationBlock } from './support.js'

const blocks = () => [destinationBlock(8), destinationBlock(8, 4, 'rom')]
const ram = { name: 'ram', usedLengthBytes: 8 * PAGE }
const rom = { name: 'rom', usedLengthBytes: 8 * PAGE }

describe('the agreement of both ends', () => {
  it('needs equal machine types', () => {
    checkMachineType('pc', 'pc')
    assert.throws(() => checkMachineType('pc', 'q35'), {
      code: 'ERR_PEER_MACHINE',
      message: /source is a "pc".*this machine is a "q35"/,
    })
  })

  it('needs equal page sizes, of the host and of the target', () => {
    const own = blocks()
    checkPageSizes(own, 5 * PAGE, PAGE)
    for (const [summary, target] of [
      [PAGE, PAGE],
      [4 * PAGE, PAGE],
      [5 * PAGE, 4 * PAGE],
      [undefined, undefined],
      [5 * PAGE, undefined],
    ] as const) {
      assert.throws(() => checkPageSizes(own, summary, target), { code: 'ERR_PEER_PAGE_SIZE' })
    }
  })

  it('needs the same blocks, in any order', () => {
    checkBlocks(blocks(), [rom, ram])
  })

  for (const [what, announced, message] of [
    ['a block that is not here', [ram, rom, { ...ram, name: 'vram' }], /no RAM block "vram" here/],
    ['a block that is only here', [ram], /source has no RAM block "rom"/],
    [
      'a shorter block',
      [ram, { ...rom, usedLengthBytes: 4 * PAGE }],
      /"rom" has 16384 bytes at the source and 32768 here/,
    ],
    ['no block at all', [], /source has no RAM block "ram"/],
  ] as const) {
    it(`rejects ${what}, by name`, () => {
      assert.throws(() => checkBlocks(blocks(), announced), { code: 'ERR_PEER_BLOCK', message })
    })
  }

  it('finds a block by its whole name', () => {
    const own = blocks()
    assert.equal(findBlock(own, 'rom'), own[1])
    assert.throws(() => findBlock(own, 'ro'), { code: 'ERR_PEER_BLOCK' })
  })
})

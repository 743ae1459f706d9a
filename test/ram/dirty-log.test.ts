import assert from 'node:assert/strict'
import { PageBitmap } from '../../src/ram/page-bitmap.js'
import { RamBlock } from '../../src/ram/ram-block.js'
import { openDirtyLog } from '../../src/ram/dirty-log.js'
import { cleanups } from '../support/cleanup.js'
import { makeRegion } from '../support/memory-kinds.js'

describe('a dirty log of a RAM block that is shorter than its region', () => {
  for (const method of ['async', 'sync'] as const) {
    it(`notes writes to the block, ${method}`, () => {
      const region = makeRegion('anon', 4)
      const [block] = RamBlock.attachAll([
        { name: 'ram', regionId: region.id, lengthBytes: 2 * 4096 },
      ])
      assert(block !== undefined)
      const dirty = new PageBitmap(block.pageCount)
      const log = openDirtyLog([{ block, dirty }], method)
      cleanups.add(() => log.close())
      assert.equal(log.method, method)
      dirty.clearRange(0, block.pageCount)
      if (method === 'async') {
        region.write(4096, Uint8Array.of(1))
        // This page is outside of the block: it is not logged, and does not stop the log.
        region.write(3 * 4096, Uint8Array.of(1))
        assert.equal(log.sync(), 1)
        assert.deepEqual([...dirty.runs()], [[1, 2]])
      } else {
        assert.equal(log.sync(), 0)
      }
    })
  }
})

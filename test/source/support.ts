import assert from 'node:assert/strict'
import { MemoryRegion } from '../../src/kernel/index.js'
import type { TrackedBlock } from '../../src/ram/dirty-log.js'
import { PageBitmap } from '../../src/ram/page-bitmap.js'
import { RamBlock } from '../../src/ram/ram-block.js'
import { cleanups } from '../support/cleanup.js'

/** A block of `pages` zero pages, all of them still to be sent. */
export function tracked(pages: number, hostPages = 1, name = 'ram'): TrackedBlock {
  const region = MemoryRegion.create({ kind: 'anon', lengthBytes: pages * 4096 })
  const pageSizeBytes = hostPages * 4096
  const lengthBytes = pages * 4096
  const [block] = RamBlock.attachAll([{ name, regionId: region.id, lengthBytes, pageSizeBytes }])
  assert(block !== undefined)
  cleanups.add(() => {
    block.close()
    region.close()
  })
  const dirty = new PageBitmap(pages)
  dirty.setAll()
  return { block, dirty }
}

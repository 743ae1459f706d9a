import assert from 'node:assert/strict'
import { type DirtyLog, type TrackedBlock, openDirtyLog } from '../../src/ram/dirty-log.js'
import { PageBitmap } from '../../src/ram/page-bitmap.js'
import { RamBlock } from '../../src/ram/ram-block.js'
import { type MemoryRegion, Userfaultfd } from '../../src/kernel/index.js'
import { cleanups } from '../support/cleanup.js'
import { makeRegion } from '../support/memory-kinds.js'
import { Parked } from '../support/park.js'

const PAGE = 4096
const methods = ['async', 'sync'] as const

interface Watched extends TrackedBlock {
  readonly region: MemoryRegion
}

/** A block of `pages` target pages, none of them dirty, at the begin of a longer region. */
function clean(pages: number, hostPages = 1): Watched {
  const region = makeRegion('anon', pages + 2 * hostPages)
  const [block] = RamBlock.attachAll([
    {
      name: 'ram',
      regionId: region.id,
      lengthBytes: pages * PAGE,
      pageSizeBytes: hostPages * PAGE,
    },
  ])
  assert(block !== undefined)
  cleanups.add(() => block.close())
  return { region, block, dirty: new PageBitmap(block.pageCount) }
}

/** Opens the log of blocks, with all pages clean. */
function watch(method: (typeof methods)[number], ...blocks: readonly Watched[]): DirtyLog {
  const log = openDirtyLog(blocks, method)
  cleanups.add(() => log.close())
  assert.equal(log.method, method)
  for (const { dirty } of blocks) dirty.clearRange(0, dirty.pageCount)
  return log
}

/** Writes to each page: with `sync` in another thread, which waits for this event loop. */
async function write(
  method: (typeof methods)[number],
  { region }: Watched,
  ...pages: readonly number[]
): Promise<void> {
  for (const page of pages) {
    if (method === 'async') region.write(page * PAGE, Uint8Array.of(1))
    else assert.equal(await new Parked(region, 'write', page * PAGE).result, 'done')
  }
}

describe('a dirty log of a RAM block that is shorter than its region', () => {
  for (const method of methods) {
    it(`notes writes to the block, ${method}`, async () => {
      const block = clean(2)
      const log = watch(method, block)
      await write(method, block, 1)
      // This page is outside of the block: it is not logged, and does not stop the log.
      await write(method, block, 3)
      assert.equal(log.sync(), 1)
      assert.deepEqual([...block.dirty.runs()], [[1, 2]])
    })
  }
})

for (const method of methods) {
  describe(`a dirty log, ${method}`, () => {
    it('finds nothing where nothing was written', () => {
      const block = clean(4)
      const log = watch(method, block)
      assert.equal(log.sync(), 0)
      assert.deepEqual([...block.dirty.runs()], [])
    })

    it('reports each write to one round only', async () => {
      const block = clean(4)
      const log = watch(method, block)
      await write(method, block, 2)
      assert.equal(log.sync(), 1)
      block.dirty.clear(2)
      assert.equal(log.sync(), 0)
      await write(method, block, 2, 3)
      assert.equal(log.sync(), 2)
      assert.deepEqual([...block.dirty.runs()], [[2, 4]])
    })

    it('does not count pages that are dirty already', async () => {
      const block = clean(4)
      const log = watch(method, block)
      block.dirty.set(1)
      await write(method, block, 1, 2)
      assert.equal(log.sync(), 1)
      assert.deepEqual([...block.dirty.runs()], [[1, 3]])
    })

    it('keeps pages dirty that were not sent before the next round', async () => {
      const block = clean(4)
      const log = watch(method, block)
      await write(method, block, 0)
      log.sync()
      await write(method, block, 3)
      assert.equal(log.sync(), 1)
      assert.deepEqual(
        [...block.dirty.runs()],
        [
          [0, 1],
          [3, 4],
        ],
      )
    })

    it('attributes writes to their blocks', async () => {
      const [ram, rom] = [clean(4), clean(4)]
      const log = watch(method, ram, rom)
      await write(method, rom, 1)
      await write(method, ram, 2)
      assert.equal(log.sync(), 2)
      assert.deepEqual([...ram.dirty.runs()], [[2, 3]])
      assert.deepEqual([...rom.dirty.runs()], [[1, 2]])
    })

    it('lets the guest write after it is closed', async () => {
      const block = clean(2)
      const log = openDirtyLog([block], method)
      log.close()
      await write(method, block, 1)
    })
  })
}

describe('a dirty log, sync', () => {
  it('marks the whole host page of a write', async () => {
    const block = clean(8, 4)
    const log = watch('sync', block)
    await write('sync', block, 5)
    assert.equal(log.sync(), 4)
    assert.deepEqual([...block.dirty.runs()], [[4, 8]])
  })
})

describe('openDirtyLog', () => {
  it('prefers async where the kernel has it', () => {
    const [auto, explicit] = [openDirtyLog([clean(2)]), openDirtyLog([clean(2)], 'async')]
    cleanups.add(() => auto.close())
    cleanups.add(() => explicit.close())
    assert.equal(auto.method, explicit.method)
  })

  it('holds no memory if it cannot watch all of it', () => {
    const [block, taken] = [clean(2), clean(2)]
    const other = openDirtyLog([taken])
    assert.throws(() => openDirtyLog([block, taken]), { code: 'EBUSY' })
    other.close()
    openDirtyLog([block, taken]).close()
  })
})

describe('a dirty log', () => {
  it('knows the pages that were never written, and loses those that are', async () => {
    const block = clean(512)
    block.region.adviseHugePages('NOHUGEPAGE')
    await write('async', block, 90)
    const log = watch('async', block)
    const runs = (): unknown => [...(log.untouched(block.block)?.runs() ?? [])]
    const before = [
      [0, 90],
      [91, 512],
    ]
    assert.deepEqual(runs(), before)
    await write('async', block, 10, 300)
    assert.deepEqual(runs(), before, 'the writes were not synced')
    assert.equal(log.sync(), 2)
    assert.deepEqual(runs(), [
      [0, 10],
      [11, 90],
      [91, 300],
      [301, 512],
    ])
  })

  it('counts pages as untouched that are the zero page, until they are written', async () => {
    const block = clean(64)
    const uffd = Userfaultfd.open()
    const bytes = 64 * PAGE
    uffd.register(block.region.address, bytes, { missing: true })
    uffd.zeropage(block.region.address, bytes)
    uffd.unregister(block.region.address, bytes)
    uffd.close()
    const log = watch('async', block)
    assert.equal(log.untouched(block.block)?.count(), 64)
    await write('async', block, 5)
    log.sync()
    assert.equal(log.untouched(block.block)?.test(5), false)
  })

  it('counts short runs of untouched pages as data', () => {
    const block = clean(63)
    assert.equal(watch('async', block).untouched(block.block), undefined)
  })

  it('knows no untouched page where writes block, or where all pages were written', async () => {
    const block = clean(4)
    assert.equal(watch('sync', block).untouched(block.block), undefined)
    const other = clean(4)
    await write('async', other, 0, 1, 2, 3)
    assert.equal(watch('async', other).untouched(other.block), undefined)
  })
})

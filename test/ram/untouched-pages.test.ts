import assert from 'node:assert/strict'
import { MemoryRegion, SCAN_STRIDE, Userfaultfd } from '../../src/kernel/index.js'
import { openDirtyLog } from '../../src/ram/dirty-log.js'
import { PageBitmap } from '../../src/ram/page-bitmap.js'
import { RamBlock } from '../../src/ram/ram-block.js'
import { armUntouched, UntouchedPages } from '../../src/ram/untouched-pages.js'
import { cleanups } from '../support/cleanup.js'

const PAGE = 4096
const PAGES = 1024

function memory(kind: 'anon' | 'memfd', pages = PAGES): { block: RamBlock; data: PageBitmap } {
  const lengthBytes = pages * PAGE
  const region = MemoryRegion.create({ kind, lengthBytes, alias: kind === 'memfd' })
  region.adviseHugePages('NOHUGEPAGE')
  const [block] = RamBlock.attachAll([{ name: 'ram', regionId: region.id, lengthBytes }])
  assert(block !== undefined)
  cleanups.add(() => {
    block.close()
    region.close()
  })
  const data = new PageBitmap(pages)
  data.setAll()
  return { block, data }
}

function write({ region }: RamBlock, ...pages: number[]): void {
  for (const page of pages) region.write(page * PAGE, Uint8Array.of(1))
}

/** `PAGE_IS_SWAPPED` */
const SWAPPED = 16

/** Lets scans find these ranges, in pages, with their categories. */
function replaceScan(
  block: RamBlock,
  ranges: readonly (readonly [start: number, end: number, categories: number])[],
): void {
  const { pages } = block
  let at = 0
  const scan: MemoryRegion['scan'] = ({ out }) => {
    const count = Math.min(out.length / SCAN_STRIDE, ranges.length - at)
    const found = ranges.slice(at, at + count)
    out.set(found.flatMap(([start, end, categories]) => [start * PAGE, end * PAGE, categories]))
    at += count
    return {
      count,
      next: at === ranges.length ? pages.lengthBytes : (found.at(-1)?.[1] ?? 0) * PAGE,
    }
  }
  Object.defineProperty(pages, 'scan', { value: scan })
}

describe('UntouchedPages', () => {
  for (const kind of ['anon', 'memfd'] as const) {
    it(`finds pages that were never written, ${kind}`, () => {
      const { block, data } = memory(kind)
      write(block, 100, 300, 301)
      UntouchedPages.find(block, data).confirm()
      assert.deepEqual(
        [...data.runs()],
        [
          [100, 101],
          [300, 302],
        ],
      )
    })

    it(`finds pages that were written before the second look, ${kind}`, () => {
      const { block, data } = memory(kind)
      const untouched = UntouchedPages.find(block, data)
      assert.equal(data.count(), 0)
      write(block, 0, 500, 1023)
      untouched.confirm()
      assert.deepEqual(
        [...data.runs()],
        [
          [0, 1],
          [500, 501],
          [1023, 1024],
        ],
      )
    })
  }

  it('finds a memfd page that was written through another mapping', () => {
    const { block, data } = memory('memfd')
    const untouched = UntouchedPages.find(block, data)
    block.region.writeAlias(70 * PAGE, Uint8Array.of(1))
    untouched.confirm()
    assert.deepEqual([...data.runs()], [[70, 71]])
  })

  it('finds pages that are the zero page', () => {
    const { block, data } = memory('anon')
    const { address } = block.region
    const uffd = Userfaultfd.open()
    cleanups.add(() => uffd.close())
    uffd.register(address, PAGES * PAGE, { missing: true })
    uffd.zeropage(address + 100 * PAGE, 8 * PAGE)
    uffd.unregister(address, PAGES * PAGE)
    UntouchedPages.find(block, data).confirm()
    assert.equal(data.count(), 0)
  })

  it('counts short runs as data, because a second look at each costs downtime', () => {
    const { block, data } = memory('anon')
    write(block, ...Array.from({ length: PAGES / 32 }, (_, index) => index * 32))
    UntouchedPages.find(block, data).confirm()
    assert.equal(data.count(), PAGES)
  })

  it('counts a page as data that is neither present nor certainly untouched', () => {
    const { block, data } = memory('anon')
    // Leaves entries in the page table that are not those of present pages, as moving a page does.
    const log = openDirtyLog([{ block, dirty: new PageBitmap(PAGES) }])
    cleanups.add(() => log.close())
    UntouchedPages.find(block, data).confirm()
    assert.equal(data.count(), PAGES)
  })

  it('gives up where memory is written here and there', () => {
    const { block, data } = memory('memfd', 70_000)
    for (let page = 0; page < 40_000; page += 2) write(block, page)
    UntouchedPages.find(block, data).confirm()
    assert.equal(data.count(), 70_000)
  })

  it('finds nothing in huge pages, of which the kernel does not tell', function () {
    const { block, data } = memory('anon')
    Object.defineProperty(block.region, 'kind', { value: 'hugetlb' })
    UntouchedPages.find(block, data).confirm()
    assert.equal(data.count(), PAGES)
  })
})

describe('armUntouched', () => {
  it('counts pages as data that are neither present nor certainly untouched', () => {
    const { block } = memory('anon')
    replaceScan(block, [
      [0, 128, SWAPPED],
      [128, 256, 0],
    ])
    assert.deepEqual([...armUntouched(block).runs()], [[128, 256]])
  })

  it('looks at a limited number of ranges, and counts the rest as data', () => {
    const { block } = memory('anon', 17_000 * 65)
    const ranges = Array.from({ length: 17_000 }, (_, index) => {
      return [index * 65, index * 65 + 64, 0] as const
    })
    replaceScan(block, ranges)
    assert.equal(armUntouched(block).count(), 16_384 * 64)
  })
})

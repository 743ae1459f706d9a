import assert from 'node:assert/strict'
import { MemoryRegion, Userfaultfd } from '../../src/kernel/index.js'
import { openDirtyLog } from '../../src/ram/dirty-log.js'
import { PageBitmap } from '../../src/ram/page-bitmap.js'
import { RamBlock } from '../../src/ram/ram-block.js'
import { UntouchedPages } from '../../src/ram/untouched-pages.js'
import { cleanups } from '../support/cleanup.js'

const PAGE = 4096
const PAGES = 1024

function memory(kind: 'anon' | 'memfd'): { block: RamBlock; data: PageBitmap } {
  const lengthBytes = PAGES * PAGE
  const region = MemoryRegion.create({ kind, lengthBytes, alias: kind === 'memfd' })
  region.adviseHugePages('NOHUGEPAGE')
  const [block] = RamBlock.attachAll([{ name: 'ram', regionId: region.id, lengthBytes }])
  assert(block !== undefined)
  cleanups.add(() => {
    block.close()
    region.close()
  })
  const data = new PageBitmap(PAGES)
  data.setAll()
  return { block, data }
}

function write({ region }: RamBlock, ...pages: number[]): void {
  for (const page of pages) region.write(page * PAGE, Uint8Array.of(1))
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

  it('finds untouched pages that a dirty log has write-protected', () => {
    const { block, data } = memory('anon')
    write(block, 90)
    const dirty = new PageBitmap(PAGES)
    const log = openDirtyLog([{ block, dirty }])
    cleanups.add(() => log.close())
    const untouched = UntouchedPages.find(block, data)
    assert.deepEqual([...data.runs()], [[90, 91]])
    write(block, 600)
    log.sync()
    untouched.confirm()
    assert.deepEqual(
      [...data.runs()],
      [
        [90, 91],
        [600, 601],
      ],
    )
  })

  it('finds nothing in huge pages, of which the kernel does not tell', function () {
    const { block, data } = memory('anon')
    Object.defineProperty(block.region, 'kind', { value: 'hugetlb' })
    UntouchedPages.find(block, data).confirm()
    assert.equal(data.count(), PAGES)
  })
})

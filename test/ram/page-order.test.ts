import assert from 'node:assert/strict'
import fc from 'fast-check'
import { MOST_RUNS, PageOrder } from '../../src/ram/page-order.js'

const blocks = [{ lengthBytes: 64 * 4096 }, { lengthBytes: 16 * 4096 }]

/** Block and page of each entry, in order. */
function pagesOf(order: PageOrder): string[] {
  return Array.from({ length: order.runCount }, (_, run) => run).flatMap((run) =>
    Array.from({ length: order.count(run) }, (_, index) => {
      return `${order.block(run)}:${order.first(run) + index}`
    }),
  )
}

describe('PageOrder', () => {
  it('keeps pages in the order in which they were added, each once', () => {
    const order = new PageOrder(blocks)
    order.add(0, 9, 10)
    order.add(1, 3, 4)
    order.add(0, 7, 12)
    order.add(0, 9, 10)
    assert.deepEqual(order.toArray(), [0, 9, 1, 1, 3, 1, 0, 7, 2, 0, 10, 2])
    assert.equal(order.pageCount, 6)
  })

  it('merges neighbouring pages into one run', () => {
    const order = new PageOrder(blocks)
    for (const page of [4, 5, 6]) order.add(0, page, page + 1)
    order.add(1, 7, 8)
    assert.deepEqual(order.toArray(), [0, 4, 3, 1, 7, 1])
  })

  it('behaves like a list without repetitions', () => {
    const range = fc
      .tuple(fc.nat(1), fc.nat(15), fc.integer({ min: 1, max: 16 }))
      .map(([block, first, count]) => ({ block, first, end: Math.min(16, first + count) }))
    fc.assert(
      fc.property(fc.array(range), (ranges) => {
        const order = new PageOrder(blocks)
        const naive = new Set<string>()
        for (const { block, first, end } of ranges) {
          order.add(block, first, end)
          for (let page = first; page < end; page += 1) naive.add(`${block}:${page}`)
        }
        assert.deepEqual(pagesOf(order), [...naive])
        assert.equal(order.pageCount, naive.size)
      }),
    )
  })

  it('shows pages that another view has added, and appends after them', () => {
    const order = new PageOrder(blocks)
    order.add(0, 5, 6)
    const view = new PageOrder(blocks, order.buffer)
    view.add(0, 5, 6)
    view.add(0, 2, 3)
    assert.deepEqual(pagesOf(order), ['0:5', '0:2'])
  })

  it('appends another order', () => {
    const order = new PageOrder(blocks)
    order.add(0, 5, 6)
    const other = new PageOrder(blocks)
    other.add(1, 0, 1)
    other.add(0, 4, 7)
    order.addAll(other)
    assert.deepEqual(pagesOf(order), ['0:5', '1:0', '0:4', '0:6'])
  })

  it('does not grow beyond its limit', () => {
    const pages = 2 * MOST_RUNS + 64
    const order = new PageOrder([{ lengthBytes: pages * 4096 }])
    for (let page = 0; page < pages; page += 2) order.add(0, page, page + 1)
    assert.equal(order.runCount, MOST_RUNS)
    assert.equal(order.first(MOST_RUNS - 1), 2 * (MOST_RUNS - 1))
  })

  it('lists its blocks', () => {
    const order = new PageOrder(blocks)
    assert(order.fits(blocks))
    assert(!order.fits(blocks.slice(1)))
    assert(!order.fits([...blocks].reverse()))
  })
})

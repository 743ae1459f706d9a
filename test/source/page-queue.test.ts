import assert from 'node:assert/strict'
import { PageQueue } from '../../src/source/page-queue.js'
import { tracked } from './support.js'

const MOST_IN_ORDER = 65_536

/** Sends all queued pages, host page by host page. */
function serve(queue: PageQueue): number[] {
  const served: number[] = []
  for (let next = queue.peek(); next !== undefined; next = queue.peek()) {
    const { tracked, page } = next
    served.push(page)
    tracked.dirty.clearRange(page, page + tracked.block.hostPages)
  }
  return served
}

describe('PageQueue', () => {
  it('serves requests in the order of arrival, each once', () => {
    const ram = tracked(100)
    const queue = new PageQueue([ram])
    for (const page of [7, 3, 7, 50, 3]) queue.add(ram, page, page + 1)
    assert.equal(queue.length, 3)
    assert.deepEqual(serve(queue), [7, 3, 50])
    assert.equal(queue.length, 0)
  })

  it('returns the same page until it was sent', () => {
    const ram = tracked(10)
    const queue = new PageQueue([ram])
    queue.add(ram, 4, 5)
    assert.equal(queue.peek()?.page, 4)
    assert.equal(queue.peek()?.page, 4)
  })

  it('serves a page that was set aside although its range is over and the queue is full', () => {
    const ram = tracked(200_000)
    const queue = new PageQueue([ram])
    queue.add(ram, 0, 4)
    for (let page = 10; queue.length < 65_536; page += 2) queue.add(ram, page, page + 1)
    const first = queue.peek()
    assert(first !== undefined)
    queue.setAside(first)
    queue.add(ram, 0, 1)
    const served = serve(queue)
    assert.equal(served.length, 65_536 + 3)
    assert.equal(served.at(-1), 0)
  })

  it('drops pages that are not owed when it looks at them', () => {
    const ram = tracked(100)
    const queue = new PageQueue([ram])
    ram.dirty.clear(5)
    queue.add(ram, 5, 6)
    assert.equal(queue.peek(), undefined)
    assert.equal(queue.length, 0)
    queue.add(ram, 8, 10)
    ram.dirty.clearRange(8, 10)
    assert.equal(queue.peek(), undefined)
    // The page is written again before the switch, so it may be requested again.
    ram.dirty.set(8)
    queue.add(ram, 8, 9)
    assert.deepEqual(serve(queue), [8])
  })

  it('serves whole host pages, of which a part may have been sent', () => {
    const ram = tracked(64, 8)
    const queue = new PageQueue([ram])
    ram.dirty.clearRange(16, 20)
    queue.add(ram, 16, 32)
    assert.deepEqual(serve(queue), [16, 24])
  })

  it('uses one entry for all of RAM, for any number of requests', () => {
    const ram = tracked(100_000)
    const queue = new PageQueue([ram])
    for (let i = 0; i < 1000; i += 1) queue.add(ram, 0, 100_000)
    assert.equal(queue.length, 1)
    assert.equal(serve(queue).length, 100_000)
  })

  it('serves every request, and no other page, if the queue overflows', () => {
    const pages = 4 * MOST_IN_ORDER
    const ram = tracked(pages)
    const queue = new PageQueue([ram])
    // From the end to the start, so that the order is visible.
    const asked = Array.from({ length: pages / 2 }, (_, index) => pages - 2 - 2 * index)
    for (const page of asked) queue.add(ram, page, page + 1)
    assert.equal(queue.length, MOST_IN_ORDER)
    const served = serve(queue)
    assert.deepEqual(served.slice(0, MOST_IN_ORDER), asked.slice(0, MOST_IN_ORDER))
    assert.deepEqual(
      served.slice(MOST_IN_ORDER),
      asked.slice(MOST_IN_ORDER).sort((a, b) => a - b),
    )
    assert.equal(queue.length, 0)
  })
})

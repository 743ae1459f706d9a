/** Pages of files that are not in the page cache: nothing waits for the disk. */
import assert from 'node:assert/strict'
import { closeSync, openSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { PageFile } from '../../src/kernel/index.js'
import { PageBitmap } from '../../src/ram/page-bitmap.js'
import { RamBlock } from '../../src/ram/ram-block.js'
import type { SentBlock } from '../../src/source/block.js'
import { PageLoader } from '../../src/source/page-loader.js'
import { temporaryFolder } from '../cli/support.js'
import { cleanups } from '../support/cleanup.js'
import { makeRegion } from '../support/memory-kinds.js'
import { dropFromCache } from '../support/page-cache.js'
import { PAGE, pagesOf, senderOf } from './support.js'

const PAGES = 1024

/** A block of a file, which is closed after the test. */
function attach(fd: number, hostPages = 1, offset = 0): RamBlock {
  const lengthBytes = PAGES * PAGE
  const runs = Float64Array.of(0, PAGES, 0, offset, PAGE)
  const file = PageFile.open({ fds: [fd], lengthBytes, runs })
  const pageSizeBytes = hostPages * PAGE
  const [block] = RamBlock.attachAll([
    { name: 'ram', pageFileId: file.id, lengthBytes, pageSizeBytes },
  ])
  assert(block !== undefined)
  cleanups.add(() => {
    block.close()
    file.close()
    closeSync(fd)
  })
  return block
}

/** All pages are to be sent. */
function sentBlock(block: RamBlock): SentBlock {
  const dirty = new PageBitmap(PAGES)
  dirty.setAll()
  return { block, dirty, data: dirty.copy(), leftOut: new PageBitmap(PAGES) }
}

/** A block of a file of which nothing is in the page cache. */
async function cold(hostPages = 1): Promise<SentBlock & { path: string }> {
  const path = join(await temporaryFolder(), 'ram')
  const bytes = Buffer.alloc(PAGES * PAGE)
  for (let page = 0; page < PAGES; page += 1) bytes.writeUInt32LE(page + 1, page * PAGE)
  writeFileSync(path, bytes)
  const block = attach(openSync(path, 'r'), hostPages)
  await dropFromCache(path)
  return { ...sentBlock(block), path }
}

/** Lets the thread pool read. */
async function loaded(isOver: () => boolean): Promise<void> {
  while (!isOver()) await new Promise((resolve) => setImmediate(resolve))
}

describe('a source whose pages are on disk', () => {
  it('sets a request aside while its page is read, and serves others', async () => {
    const block = await cold()
    let notified = 0
    const { ram, send } = senderOf([block], () => (notified += 1))
    ram.beginPostcopy()
    // Reads a part of the file, so that it is in the page cache.
    await new PageLoader().loadRequested(block.block, 512)
    ram.request(block, 100, 101)
    ram.request(block, 512, 513)
    assert.deepEqual(
      send((out) => ram.packRequested(out)),
      ['ram:512'],
    )
    assert.equal(ram.requestsWaiting, 0)
    assert.equal(ram.isLoading, true)
    await loaded(() => notified > 0)
    assert.deepEqual(
      send((out) => ram.packRequested(out)),
      ['ram:100'],
    )
  })

  it('reads ahead of its sweep, and sends every page once', async () => {
    const block = await cold()
    const { ram, send } = senderOf([block])
    ram.beginPostcopy()
    const sent: string[] = []
    let waits = 0
    while (ram.remainingPages > 0) {
      const pages = send((out) => ram.packPart(out, 64))
      sent.push(...pages)
      if (pages.length > 0) continue
      waits += 1
      assert.equal(ram.isLoading, true, 'nothing was sent, and nothing is read')
      await loaded(() => !ram.isLoading)
    }
    assert(waits > 0, 'the file was in the page cache')
    assert.deepEqual(sent.sort(), pagesOf('ram', 0, PAGES).sort())
  })

  it('reads a limited number of requested pages at once, and the others later', async () => {
    const block = await cold()
    const loader = new PageLoader()
    const reads: Promise<void>[] = []
    while (loader.hasRoom) reads.push(loader.loadRequested(block.block, reads.length))
    assert.equal(reads.length, 32)
    await Promise.all(reads)
    assert.equal(loader.hasRoom, true)

    const { ram, send } = senderOf([block])
    ram.beginPostcopy()
    for (let page = 0; page < PAGES; page += 4) ram.request(block, page, page + 1)
    const sent: string[] = []
    while (sent.length < PAGES / 4) {
      sent.push(...send((out) => ram.packRequested(out)))
      await loaded(() => !ram.isLoading)
    }
    assert.equal(new Set(sent).size, PAGES / 4)
  })

  it('serves a cached page after requests that have to wait for their reads', async () => {
    const block = await cold()
    const { ram, send } = senderOf([block])
    ram.beginPostcopy()
    await new PageLoader().loadRequested(block.block, 1000)
    for (let page = 0; page < 320; page += 8) ram.request(block, page, page + 1)
    ram.request(block, 1000, 1001)
    assert(send((out) => ram.packRequested(out)).includes('ram:1000'))
  })

  it('reads no guess on its own, so that guesses take no room of requests', async () => {
    const block = await cold()
    const { ram, send } = senderOf([block])
    ram.beginPostcopy()
    for (let page = 100; page < 140; page += 1) ram.expect(block, page, page + 1)
    send((out) => ram.packAhead(out, 1))
    ram.request(block, 900, 901)
    await loaded(() => {
      const pages = send((out) => ram.packRequested(out))
      return pages.includes('ram:900')
    })
    assert.equal(ram.requestsWaiting, 0)
  })

  it('sends every page once from a file system whose reads always wait', async () => {
    const region = makeRegion('anon', PAGES)
    for (let page = 0; page < PAGES; page += 1) region.write(page * PAGE, Uint8Array.of(1))
    // It has no RWF_NOWAIT.
    const block = attach(openSync('/proc/self/mem', 'r'), 1, region.address)
    const { ram, send } = senderOf([sentBlock(block)])
    ram.beginPostcopy()
    const sent: string[] = []
    const sweep = (): string[] => send((out) => ram.packPart(out, 64))
    assert.deepEqual(sweep(), [])
    assert.equal(ram.isLoading, true)
    while (ram.remainingPages > 0) {
      sent.push(...sweep())
      await loaded(() => !ram.isLoading)
    }
    assert.deepEqual(sent.sort(), pagesOf('ram', 0, PAGES).sort())
  })

  it('takes a page whose read fails for loaded: packing it reports the error', async () => {
    const path = join(await temporaryFolder(), 'unreadable')
    const block = attach(openSync(path, 'w'))
    const loader = new PageLoader()
    await loader.loadRequested(block, 1)
    assert.equal(loader.hasLoaded(block, 1), true)
    assert.equal(loader.isLoading, false)
    const { ram, send } = senderOf([sentBlock(block)])
    ram.beginPostcopy()
    assert.throws(() => send((out) => ram.packPart(out, 4)), { code: 'EBADF' })
  })

  it('reads whole host pages', async () => {
    const block = await cold(512)
    const { ram, send } = senderOf([block])
    ram.beginPostcopy()
    const room = new Uint8Array(ram.batchBytes(512))
    const sweep = (): string[] => send((out) => ram.packPart(out, 1), room)
    assert.deepEqual(sweep(), [])
    await loaded(() => !ram.isLoading)
    assert.deepEqual(sweep(), pagesOf('ram', 0, 512))
  })

  it('waits for a page that was dropped from the page cache again', async () => {
    const block = await cold()
    const { ram, send } = senderOf([block])
    ram.beginPostcopy()
    const sweep = (): string[] => send((out) => ram.packPart(out, 4))
    assert.deepEqual(sweep(), [])
    await loaded(() => !ram.isLoading)
    await dropFromCache(block.path)
    assert.equal(sweep()[0], 'ram:0')
  })

  it('reports a page that cannot be read when it is packed', async () => {
    const block = await cold()
    const { ram, send } = senderOf([block])
    ram.beginPostcopy()
    writeFileSync(block.path, '')
    const sweep = (): string[] => send((out) => ram.packPart(out, 4))
    assert.throws(sweep, { code: 'ENODATA' })
  })
})

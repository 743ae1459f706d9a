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
import { dropFromCache } from '../support/page-cache.js'
import { PAGE, pagesOf, senderOf } from './support.js'

const PAGES = 1024

/** A block of a file, of which nothing is in the page cache. */
async function cold(hostPages = 1): Promise<SentBlock & { path: string }> {
  const path = join(await temporaryFolder(), 'ram')
  const bytes = Buffer.alloc(PAGES * PAGE)
  for (let page = 0; page < PAGES; page += 1) bytes.writeUInt32LE(page + 1, page * PAGE)
  writeFileSync(path, bytes)
  const fd = openSync(path, 'r')
  cleanups.add(() => closeSync(fd))
  const runs = Float64Array.of(0, PAGES, 0, 0, PAGE)
  const file = PageFile.open({ fds: [fd], lengthBytes: PAGES * PAGE, runs })
  const [block] = RamBlock.attachAll([
    {
      name: 'ram',
      pageFileId: file.id,
      lengthBytes: PAGES * PAGE,
      pageSizeBytes: hostPages * PAGE,
    },
  ])
  assert(block !== undefined)
  cleanups.add(() => {
    block.close()
    file.close()
  })
  await dropFromCache(path)
  const dirty = new PageBitmap(PAGES)
  dirty.setAll()
  return { block, dirty, data: dirty.copy(), leftOut: new PageBitmap(PAGES), path }
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
    await new PageLoader().load(block.block, 512, 513)
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

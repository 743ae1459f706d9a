import assert from 'node:assert/strict'
import { closeSync, openSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { PackCall, packPages, PageFile, PageFileRun } from '../../src/kernel/index.js'
import { temporaryFolder } from '../cli/support.js'
import { cleanups } from '../support/cleanup.js'
import { decodeRecords } from '../support/records.js'

const PAGE = 4096

type Run = readonly [firstPage: number, pageCount: number, offset: number, strideBytes?: number]

/** A file whose byte at each offset tells its page: `offset / 4096 + 1`. */
async function numberedFile(pages: number): Promise<{ path: string; fd: number }> {
  const path = join(await temporaryFolder(), 'ram')
  const bytes = Buffer.alloc(pages * PAGE)
  for (let page = 0; page < pages; page += 1) bytes.fill(page + 1, page * PAGE, (page + 1) * PAGE)
  writeFileSync(path, bytes)
  const fd = openSync(path, 'r')
  cleanups.add(() => closeSync(fd))
  return { path, fd }
}

function open(fds: number[], pages: number, runs: readonly Run[], data?: Uint8Array): PageFile {
  const rows = runs.flatMap(([first, count, offset, stride = PAGE]) => [
    first,
    count,
    0,
    offset,
    stride,
  ])
  const file = PageFile.open({
    fds,
    lengthBytes: pages * PAGE,
    runs: Float64Array.from(rows),
    ...(data === undefined ? {} : { data }),
  })
  cleanups.add(() => file.close())
  return file
}

/** The first byte of each page, and the call. */
function pack(file: PageFile, pages: number, numbers: Partial<PackCall> = {}) {
  const bitmap = new Uint8Array(Math.ceil(pages / 64) * 8).fill(0xff)
  const out = new Uint8Array((pages + 1) * 4104)
  const range = { from: 0, to: pages, hostPages: 1, maxPages: pages, outOffset: 0, wait: 1 }
  const call = Object.assign(new PackCall(), range, numbers)
  const bytes = packPages(file, bitmap, undefined, out, call)
  const records = decodeRecords(out.subarray(0, bytes))
  return { call, bitmap, content: records.map(({ page, content }) => [page, content?.[0] ?? 0]) }
}

describe('PageFile', () => {
  it('reads pages in any order of the file, and zeros where no run is', async () => {
    const { fd } = await numberedFile(40)
    const file = open([fd], 30, [
      [0, 20, 20 * PAGE],
      [25, 5, 0],
    ])
    const { content, call } = pack(file, 30)
    const expected = Array.from({ length: 30 }, (_, page) => [
      page,
      page < 20 ? page + 21 : page < 25 ? 0 : page - 24,
    ])
    assert.deepEqual(content, expected)
    assert.deepEqual([call.normalPages, call.zeroPages], [25, 5])
  })

  it('skips the bytes between pages', async () => {
    const path = join(await temporaryFolder(), 'stream')
    const record = (page: number): Buffer =>
      Buffer.concat([Buffer.alloc(8, 0xee), Buffer.alloc(PAGE, page + 1)])
    writeFileSync(path, Buffer.concat(Array.from({ length: 40 }, (_, page) => record(page))))
    const fd = openSync(path, 'r')
    cleanups.add(() => closeSync(fd))
    const { content } = pack(open([fd], 40, [[0, 40, 8, 4104]]), 40)
    assert.deepEqual(
      content,
      Array.from({ length: 40 }, (_, page) => [page, page + 1]),
    )
  })

  it('takes pages without data as zeros, whatever their bytes in the file are', async () => {
    const { fd } = await numberedFile(24)
    const { content } = pack(open([fd], 24, [[0, 24, 0]], Uint8Array.of(0b101, 0xff, 0)), 24)
    const zeros = content.filter(([, byte]) => byte === 0).map(([page]) => page)
    assert.deepEqual(zeros, [1, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23])
  })

  it('finds a page, and the pages that follow it', async () => {
    const { fd } = await numberedFile(9)
    const file = open([fd], 20, [[4, 8, PAGE]])
    const run = new Float64Array(PageFileRun.stride)
    assert.equal(file.find(3, run), false)
    assert.equal(file.find(6, run), true)
    const { firstPage, pageCount, offset, strideBytes } = PageFileRun
    assert.deepEqual(
      [firstPage, pageCount, offset, strideBytes].map((field) => run[field]),
      [6, 6, 3 * PAGE, PAGE],
    )
    assert.equal(file.find(12, run), false)
  })

  it('reports a truncated file, with the offset, and keeps the page owed', async () => {
    const { path, fd } = await numberedFile(40)
    const file = open([fd], 40, [[0, 40, 0]])
    truncateSync(path, 21 * PAGE + 100)
    assert.throws(() => pack(file, 40), {
      code: 'ENODATA',
      message: /ram, 4096 bytes at offset 86016\): the file is shorter than its RAM/,
    })
  })

  it('packs all of a host page or nothing', async () => {
    const { path, fd } = await numberedFile(16)
    const file = open([fd], 16, [[0, 16, 0]])
    truncateSync(path, 11 * PAGE)
    const bitmap = new Uint8Array(8).fill(0xff)
    const numbers = { from: 0, to: 16, hostPages: 8, maxPages: 16, outOffset: 0, wait: 1 }
    const call = Object.assign(new PackCall(), numbers)
    const out = new Uint8Array(20 * 4104)
    assert.throws(() => packPages(file, bitmap, undefined, out, call), { code: 'ENODATA' })
    assert.deepEqual([call.nextPage, call.normalPages], [8, 8])
    assert.deepEqual([...bitmap.subarray(0, 2)], [0, 0xff])
  })

  const invalid: Record<string, readonly number[]> = {
    'that overlap': [0, 4, 0, 0, PAGE, 3, 1, 0, 0, PAGE],
    'that descend': [4, 1, 0, 0, PAGE, 0, 1, 0, 0, PAGE],
    'beyond the block': [6, 3, 0, 0, PAGE],
    'of an unknown file': [0, 1, 1, 0, PAGE],
    'without pages': [0, 0, 0, 0, PAGE],
    'whose pages overlap': [0, 2, 0, 0, PAGE - 1],
    'at a negative offset': [0, 1, 0, -1, PAGE],
    'at an offset that overflows': [0, 8, 0, 2 ** 53 - 2, PAGE],
    'that are incomplete': [0, 1, 0],
  }
  for (const [what, numbers] of Object.entries(invalid)) {
    it(`rejects runs ${what}`, async () => {
      const { fd } = await numberedFile(1)
      const runs = Float64Array.from(numbers)
      assert.throws(() => PageFile.open({ fds: [fd], lengthBytes: 8 * PAGE, runs }), RangeError)
    })
  }

  it('stays open for another handle, and rejects calls on its own when closed', async () => {
    const { fd } = await numberedFile(4)
    const file = open([fd], 4, [[0, 4, 0]])
    const other = PageFile.attach(file.id)
    file.close()
    file.close()
    assert.equal(file.isClosed, true)
    assert.throws(() => pack(file, 4), { code: 'ERR_CLOSED' })
    assert.deepEqual(pack(other, 4).content.at(-1), [3, 4])
    other.close()
    assert.throws(() => PageFile.attach(other.id), { code: 'ENOENT' })
  })
})

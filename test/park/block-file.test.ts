import assert from 'node:assert/strict'
import { openSync, readFileSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { BlockFile } from '../../src/park/block-file.js'
import { PageBitmap } from '../../src/ram/page-bitmap.js'
import { temporaryFolder } from '../cli/support.js'
import { cleanups } from '../support/cleanup.js'

const block = { name: 'ram', file: 'ram-0', lengthBytes: 8 * 4096, pageSizeBytes: 4096 }

function openFiles(): number {
  return readdirSync('/proc/self/fd').length
}

describe('a file of RAM', () => {
  const cases = [
    [
      'cannot be extended to the length of its block',
      'r',
      (fd: number) => BlockFile.create(fd, block),
    ],
    ['cannot be mapped', 'w', (fd: number) => BlockFile.create(fd, block)],
    [
      'cannot be mapped in a recovery',
      'w',
      (fd: number) => BlockFile.reopen(fd, block, new PageBitmap(8)),
    ],
  ] as const
  for (const [title, flags, act] of cases) {
    it(`is closed if it ${title}`, async () => {
      const path = join(await temporaryFolder(), 'ram')
      writeFileSync(path, new Uint8Array(block.lengthBytes))
      const before = openFiles()
      assert.throws(() => act(openSync(path, flags)))
      assert.equal(openFiles(), before)
    })
  }

  it('names the file, the block and what to do if it was not written to disk', async () => {
    const path = join(await temporaryFolder(), 'ram')
    const file = BlockFile.create(openSync(path, 'w+'), block)
    file.close()
    const message =
      /^ram-0 \(RAM block "ram"\) was not written to disk \(EBADF\).*check the disk, or/
    assert.throws(() => file.sync(), { code: 'EBADF', message })
    assert.throws(() => file.sync(), { code: 'EBADF', message })
  })

  it('has a checksum that is computed from its data alone, at any length', async () => {
    const path = join(await temporaryFolder(), 'ram')
    const lengthBytes = 4 * 2 ** 30
    const fd = openSync(path, 'w+')
    const file = BlockFile.create(fd, { ...block, lengthBytes })
    cleanups.add(() => {
      file.close()
    })
    file.page(2 ** 31, new Uint8Array(4096).fill(7), 0)
    for (let offset = 0; offset < 2 ** 22; offset += 4096) file.zero(offset)
    const before = bytesRead()
    const checksum = file.checksum()
    assert(bytesRead() - before < 2 ** 23, `${bytesRead() - before} bytes`)
    assert.notEqual(checksum, '00000000')
  })
})

/** Bytes that this process has read by read(2) and similar calls. */
function bytesRead(): number {
  return Number(/^rchar: (\d+)/m.exec(readFileSync('/proc/self/io', 'utf8'))?.[1])
}

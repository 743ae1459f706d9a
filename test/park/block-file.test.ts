import assert from 'node:assert/strict'
import { openSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { BlockFile } from '../../src/park/block-file.js'
import { PageBitmap } from '../../src/ram/page-bitmap.js'
import { temporaryFolder } from '../cli/support.js'

const block = { name: 'ram', file: 'ram-0', lengthBytes: 8 * 4096, pageSizeBytes: 4096 }

function openFiles(): number {
  return readdirSync('/proc/self/fd').length
}

describe('a file of RAM', () => {
  const cases = [
    ['cannot be made as long as its block', 'r', (fd: number) => BlockFile.create(fd, block)],
    ['cannot be mapped', 'w', (fd: number) => BlockFile.create(fd, block)],
    [
      'cannot be mapped in a recovery',
      'w',
      (fd: number) => BlockFile.reopen(fd, block, new PageBitmap(8)),
    ],
  ] as const
  for (const [title, flags, act] of cases) {
    it(`is closed where it ${title}`, async () => {
      const path = join(await temporaryFolder(), 'ram')
      writeFileSync(path, new Uint8Array(block.lengthBytes))
      const before = openFiles()
      assert.throws(() => act(openSync(path, flags)))
      assert.equal(openFiles(), before)
    })
  }
})

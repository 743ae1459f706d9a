import assert from 'node:assert/strict'
import { closeSync, openSync, truncateSync, writeFileSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { fileExtents } from '../../src/kernel/index.js'
import { temporaryFolder } from '../cli/support.js'
import { cleanups } from '../support/cleanup.js'

const PAGE = 4096

describe('fileExtents', () => {
  it('finds the data of a sparse file', async () => {
    const path = join(await temporaryFolder(), 'sparse')
    writeFileSync(path, '')
    truncateSync(path, 2 ** 20)
    const fd = openSync(path, 'r+')
    cleanups.add(() => closeSync(fd))
    assert.deepEqual([...fileExtents(fd, 0, 2 ** 20)], [])
    for (const page of [3, 4, 100]) {
      writeSync(fd, Buffer.alloc(PAGE, 1), 0, PAGE, page * PAGE)
    }
    assert.deepEqual(
      [...fileExtents(fd, 0, 2 ** 20)],
      [
        [3 * PAGE, 5 * PAGE],
        [100 * PAGE, 101 * PAGE],
      ],
    )
    assert.deepEqual([...fileExtents(fd, 4 * PAGE, 100 * PAGE)], [[4 * PAGE, 5 * PAGE]])
  })

  it('finds more parts than one call returns', async () => {
    const path = join(await temporaryFolder(), 'many')
    writeFileSync(path, '')
    const fd = openSync(path, 'r+')
    cleanups.add(() => closeSync(fd))
    for (let page = 0; page < 1200; page += 2)
      writeSync(fd, Buffer.alloc(PAGE, 1), 0, PAGE, page * PAGE)
    const found = [...fileExtents(fd, 0, 1200 * PAGE)]
    assert.equal(found.length, 600)
    assert.deepEqual(found.at(-1), [1198 * PAGE, 1199 * PAGE])
  })

  it('names the call that failed', () => {
    assert.throws(() => [...fileExtents(2 ** 20, 0, 1)], { code: 'EBADF', syscall: 'lseek' })
    assert.throws(() => [...fileExtents(-1, 0, 1)], RangeError)
  })
})

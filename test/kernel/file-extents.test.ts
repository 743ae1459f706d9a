import assert from 'node:assert/strict'
import { closeSync, ftruncateSync, openSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { fileExtents } from '../../src/kernel/index.js'
import { temporaryFolder } from '../cli/support.js'
import { cleanups } from '../support/cleanup.js'

const MIB = 2 ** 20

describe('the extents of a file', () => {
  it('are where it has data, and none is after the last', async () => {
    const fd = openSync(join(await temporaryFolder(), 'sparse'), 'w+')
    cleanups.add(() => closeSync(fd))
    ftruncateSync(fd, 8 * MIB)
    assert.equal(fileExtents(fd, 0), undefined)
    writeSync(fd, new Uint8Array(MIB).fill(1), 0, MIB, 2 * MIB)
    assert.deepEqual(fileExtents(fd, 0), { start: 2 * MIB, end: 3 * MIB })
    assert.deepEqual(fileExtents(fd, 2 * MIB + 5), { start: 2 * MIB + 5, end: 3 * MIB })
    assert.equal(fileExtents(fd, 3 * MIB), undefined)
    assert.equal(fileExtents(fd, 9 * MIB), undefined)
    writeSync(fd, new Uint8Array(MIB), 0, MIB, 7 * MIB)
    assert.deepEqual(fileExtents(fd, 3 * MIB), { start: 7 * MIB, end: 8 * MIB })
  })

  it('are refused for a descriptor that is closed, or not a file', () => {
    assert.throws(() => fileExtents(2 ** 20, 0), { code: 'EBADF', syscall: 'lseek' })
    assert.throws(() => fileExtents(-1, 0), RangeError)
  })
})

import assert from 'node:assert/strict'
import { closeSync, openSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { checksumBlock } from '../../src/park/checksum.js'
import { temporaryFolder } from '../cli/support.js'
import { cleanups } from '../support/cleanup.js'

const MIB = 2 ** 20

describe('the checksum of a RAM file', () => {
  it('skips all holes between data', async () => {
    const path = join(await temporaryFolder(), 'ram')
    const bytes = new Uint8Array(8 * MIB)
    for (const at of [5, 3 * MIB + 1, 8 * MIB - 1]) bytes[at] = 7
    writeFileSync(path, bytes)
    const fd = openSync(path, 'r')
    cleanups.add(() => closeSync(fd))
    const asked: number[] = []
    const sum = checksumBlock(fd, bytes.length, (offset) => {
      asked.push(offset)
      return [0, 3 * MIB, 7 * MIB, 8 * MIB].find((start) => start >= offset) ?? bytes.length
    })
    assert.equal(sum, checksumBlock(fd, bytes.length))
    assert.deepEqual(asked, [0, MIB, 4 * MIB, 8 * MIB])
  })

  it('needs one seek for 16 TiB without data', () => {
    let asked = 0
    const nothing = (): number => {
      asked += 1
      return 2 ** 44
    }
    assert.equal(checksumBlock(-1, 2 ** 44, nothing), '00000000')
    assert.equal(asked, 1)
  })
})

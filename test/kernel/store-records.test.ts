import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { cleanups } from '../support/cleanup.js'
import { runNode } from '../support/node-script.js'

const kernel = JSON.stringify(new URL('../../src/kernel/index.js', import.meta.url))
const records = JSON.stringify(new URL('../support/records.js', import.meta.url))

describe('records that are stored in a file', () => {
  it('report the reason of a short write, and count only whole pages', () => {
    const folder = mkdtempSync(join(tmpdir(), 'postcopy-test-'))
    cleanups.add(() => rmSync(folder, { recursive: true }))
    const file = join(folder, 'ram')
    // ulimit counts in units of 512 bytes: the limit is in the middle of the second page.
    const { stdout } = runNode(
      `import { openSync } from 'node:fs'
       import { StoreCall, storeRecords } from ${kernel}
       import { concat, pageRecord } from ${records}
       const bytes = concat([pageRecord(0, new Uint8Array(4096).fill(1)), pageRecord(1, new Uint8Array(4096).fill(2))])
       const received = new Uint8Array(1)
       const call = Object.assign(new StoreCall(), { usedLength: 8192, start: 0, end: bytes.length })
       const fd = openSync(${JSON.stringify(file)}, 'w+')
       storeRecords(fd, received, new Uint8Array(1), bytes, call)
       const { normalPages, zeroPages, errno, offset } = call
       console.log(JSON.stringify([received[0], normalPages, zeroPages, errno, offset]))`,
      [],
      { prefix: ['sh', '-c', 'ulimit -f 12; exec "$@"', 'sh'] },
    )
    const [received, normal, zero, errno, offset] = JSON.parse(stdout) as number[]
    // EFBIG, for the page at 4096.
    assert.deepEqual(
      { received, normal, zero, errno, offset },
      {
        received: 1,
        normal: 1,
        zero: 0,
        errno: 27,
        offset: 4096,
      },
    )
    assert.equal(statSync(file).size, 6144)
  })
})

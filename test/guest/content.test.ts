/** Compares page content with a second, slow implementation. */
import assert from 'node:assert/strict'
import { TARGET_PAGE_SIZE } from '../../src/units.js'
import { makeGuest, readPage, regionOf, runFor, writePage } from './support.js'

const MASK = 2n ** 64n - 1n
const WEYL = 0x9e3779b97f4a7c15n

function mix(value: bigint): bigint {
  let x = value
  x = ((x ^ (x >> 30n)) * 0xbf58476d1ce4e5b9n) & MASK
  x = ((x ^ (x >> 27n)) * 0x94d049bb133111ebn) & MASK
  return x ^ (x >> 31n)
}

/** native/common/content.h in TypeScript. */
function pageOf(seed: bigint, page: bigint, version: bigint, link: bigint): Uint8Array {
  const key = mix(seed ^ mix(1n))
  const stamp = mix(key ^ ((page << 32n) | version))
  const words = BigUint64Array.from(
    { length: TARGET_PAGE_SIZE / 8 },
    (_, w) => (stamp + BigInt(w) * WEYL) & MASK,
  )
  words[1] = Buffer.from('POSTCOPY').readBigUInt64LE()
  words[2] = (version << 32n) | page
  words[3] = link
  return new Uint8Array(words.buffer)
}

describe('page content', () => {
  it('is as described', async () => {
    const guest = await makeGuest({ workload: 'sweep:hot=4096,seed=77' })
    for (const page of [1, 2, 100, 243]) {
      const expected = pageOf(77n, BigInt(page), 1n, BigInt(page))
      assert.deepEqual(readPage(guest, page), expected)
    }
  })

  it('has no repetitions, so that pages cannot be confused or compressed', async () => {
    const guest = await makeGuest()
    const words = new Set<bigint>()
    for (let page = 0; page < 244; page += 1) {
      const bytes = Buffer.from(readPage(guest, page))
      for (let at = 32; at < TARGET_PAGE_SIZE; at += 8) words.add(bytes.readBigUInt64LE(at))
    }
    assert.equal(words.size, 244 * 508)
  })

  it('differs from seed to seed', async () => {
    const one = await makeGuest({ workload: 'idle:seed=1' })
    const two = await makeGuest({ workload: 'idle:seed=2' })
    writePage(two, 7, readPage(one, 7))
    const { findings } = await two.verify()
    assert.deepEqual(
      findings.map(({ verdict, offsetBytes }) => [verdict, offsetBytes]),
      [['corrupt', 7 * TARGET_PAGE_SIZE]],
    )
  })

  it('stays at the last version instead of wrapping around', async () => {
    const guest = await makeGuest({ workload: 'sweep:hot=4096,writes=100,touches=3,seed=5' })
    const last = 2n ** 32n - 1n
    writePage(guest, 0, pageOf(5n, 0n, last - 1n, 0n))
    const entry = new Uint8Array(4).fill(0xff)
    entry[0] = 0xfe
    regionOf(guest, 'ledger').write(0, entry)
    await runFor(guest, 3)
    const [stats] = guest.vcpuStats()
    assert.deepEqual([stats?.writes, stats?.reads, stats?.failedChecks], [1, 2, 0])
    assert.deepEqual(readPage(guest, 0), pageOf(5n, 0n, last, 0n))
  })
})

import assert from 'node:assert/strict'
import { closeSync, ftruncateSync, openSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { crc32 } from 'node:zlib'
import { crc32c } from '../../src/kernel/internal.js'
import { type ChecksumAlgorithm, checksumBlock } from '../../src/park/checksum.js'
import { PageChecksums } from '../../src/park/page-checksums.js'
import { concat, pageRecord, zeroRecord } from '../support/records.js'
import { temporaryFolder } from '../cli/support.js'
import { cleanups } from '../support/cleanup.js'

const MIB = 2 ** 20
const PAGE = 4096

async function fileWith(bytes: Uint8Array, lengthBytes = bytes.length): Promise<number> {
  const path = join(await temporaryFolder(), 'ram')
  writeFileSync(path, bytes)
  const fd = openSync(path, 'r+')
  cleanups.add(() => closeSync(fd))
  ftruncateSync(fd, lengthBytes)
  return fd
}

function content(seed: number): Uint8Array {
  return Uint8Array.from({ length: PAGE }, (_, at) => (seed * 31 + at * 7 + (at >> 8)) & 0xff)
}

const u32 = (value: number): Uint8Array => new Uint8Array(Uint32Array.of(value).buffer)

/** CRC-32C of a page without the inversions, bit by bit. */
function pageValue(bytes: Uint8Array): number {
  let rest = 0
  for (const byte of bytes) {
    rest ^= byte
    for (let bit = 0; bit < 8; bit += 1) rest = (rest >>> 1) ^ ((rest & 1) === 0 ? 0 : 0x82f63b78)
  }
  return rest >>> 0
}

describe('the checksum of a RAM file', () => {
  for (const algorithm of ['crc32', 'crc32c-pages'] as const) {
    it(`${algorithm} depends on every page and its place, and not on the holes`, async () => {
      const bytes = new Uint8Array(3 * MIB)
      for (const page of [0, 5, 600, 767]) bytes.set(content(page), page * PAGE)
      const fd = await fileWith(bytes)
      const sum = checksumBlock(fd, bytes.length, algorithm)
      const other = (change: (copy: Uint8Array) => void): Promise<string> => {
        const copy = Uint8Array.from(bytes)
        change(copy)
        return fileWith(copy).then((file) => checksumBlock(file, copy.length, algorithm))
      }
      assert.equal(await other(() => undefined), sum)
      for (const at of [0, 5 * PAGE + 4095, 600 * PAGE + 1, 3 * MIB - 1, 200 * PAGE]) {
        const changed = await other((copy) => {
          copy[at] = (copy[at] ?? 0) ^ 1
        })
        assert.notEqual(changed, sum, `byte ${at}`)
      }
      const moved = await other((copy) =>
        copy.copyWithin(6 * PAGE, 5 * PAGE, 6 * PAGE).fill(0, 5 * PAGE, 6 * PAGE),
      )
      assert.notEqual(moved, sum)
      const inOtherChunk = await other((copy) => copy.copyWithin(MIB, 0, MIB).fill(0, 0, MIB))
      assert.notEqual(inOtherChunk, sum)
    })
  }

  it('is defined as in the manifest of today and of earlier versions', async () => {
    const page = content(9)
    const bytes = new Uint8Array(2 * MIB)
    bytes.set(page, MIB + PAGE)
    const fd = await fileWith(bytes)
    const values = new Uint8Array(1024)
    values.set(u32(pageValue(page)), 4)
    const expected: Record<ChecksumAlgorithm, number> = {
      crc32: crc32(bytes.subarray(MIB), crc32(u32(1))),
      'crc32c-pages': crc32c(crc32c(0, u32(1)), values),
    }
    for (const algorithm of ['crc32', 'crc32c-pages'] as const) {
      const sum = expected[algorithm].toString(16).padStart(8, '0')
      assert.equal(checksumBlock(fd, bytes.length, algorithm), sum)
    }
  })

  it('counts the missing end of a shorter file as zeros', async () => {
    const whole = new Uint8Array(MIB + 3 * PAGE)
    whole.set(content(1), MIB)
    const fd = await fileWith(whole)
    const short = await fileWith(whole.subarray(0, MIB + PAGE))
    for (const algorithm of ['crc32', 'crc32c-pages'] as const) {
      assert.equal(
        checksumBlock(short, whole.length, algorithm),
        checksumBlock(fd, whole.length, algorithm),
      )
    }
  })
})

describe('the checksum of pages that arrive', () => {
  const lengthBytes = 3 * MIB

  async function ofFile(pages: ReadonlyMap<number, Uint8Array>): Promise<string> {
    const bytes = new Uint8Array(lengthBytes)
    for (const [page, data] of pages) bytes.set(data, page * PAGE)
    return checksumBlock(await fileWith(bytes), lengthBytes, 'crc32c-pages')
  }

  function take(sums: PageChecksums, ...records: readonly Uint8Array[]): void {
    const bytes = concat([new Uint8Array(3), ...records])
    sums.records(bytes, 3, bytes.length)
  }

  it('is that of the file, in any order and in any pieces', async () => {
    const order = [700, 3, 4, 5, 6, 255, 256, 0, 511, 767, 300]
    const expected = await ofFile(new Map(order.map((page) => [page, content(page)])))
    const together = new PageChecksums()
    take(together, ...order.map((page) => pageRecord(page, content(page))))
    assert.equal(together.digest, expected)
    const alone = new PageChecksums()
    for (const page of order.toReversed()) take(alone, pageRecord(page, content(page)))
    assert.equal(alone.digest, expected)
  })

  it('is that of the last content of each page', async () => {
    const expected = await ofFile(new Map([[1, content(8)]]))
    const sums = new PageChecksums()
    // Twice in one group of pages, zero between, zero at last, a page of zeros, and discarded.
    take(
      sums,
      pageRecord(1, content(6)),
      zeroRecord(1),
      pageRecord(1, content(7)),
      pageRecord(1, content(8)),
    )
    take(sums, pageRecord(2, content(2)), pageRecord(3, new Uint8Array(PAGE)), zeroRecord(2))
    take(
      sums,
      pageRecord(200, content(1)),
      pageRecord(256, content(1)),
      pageRecord(700, content(2)),
    )
    sums.clear(100, 701)
    assert.equal(sums.digest, expected)
  })

  it('is that of an empty file without data, and needs no memory for zero pages', () => {
    const sums = new PageChecksums()
    take(sums, ...Array.from({ length: 1000 }, (_, at) => zeroRecord(at * 300)))
    sums.clear(0, 2 ** 32)
    assert.equal(sums.digest, '00000000')
  })

  it('continues with pages that are in the file already', async () => {
    const pages = new Map([
      [1, content(1)],
      [2, content(2)],
      [300, content(3)],
    ])
    const sums = new PageChecksums()
    for (const [page, data] of pages) sums.page(page, data)
    take(sums, pageRecord(301, content(4)))
    assert.equal(sums.digest, await ofFile(pages.set(301, content(4))))
  })
})

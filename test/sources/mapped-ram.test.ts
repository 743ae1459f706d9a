import assert from 'node:assert/strict'
import { truncateSync } from 'node:fs'
import { libvirtImage, mappedRam } from './short-images.js'
import { bytesOf, opened, refuses, save } from './support.js'

/** Offsets in the file without an offset. */
const total = Buffer.from(mappedRam()).indexOf('\x03ram') + 4 + 8
const AT = { total, header: total + 18, pageSize: total + 22, bitmap: total + 30 } as const
const [PAGES_AT, BITS_AT] = [total + 38, total + 46]

describe('a mapped-ram file', () => {
  it('has the pages whose bit is set; the bytes of all others are ignored', async () => {
    const image = await opened(await save(mappedRam({ pages: [undefined, 0x11, undefined, 0x33] })))
    assert.deepEqual(bytesOf(image), { 1: 0x11, 3: 0x33 })
    assert.equal(image.index, undefined)
    assert.equal(image.wasRunning, true)
  })

  it('is one run for each block', async () => {
    const pages = Array.from({ length: 300 }, (_, page) =>
      page % 3 === 0 ? page % 251 : undefined,
    )
    const image = await opened(await save(mappedRam({ pages })))
    const [block] = image.blocks
    assert.equal(block?.data.count(), 100)
    assert.deepEqual([...block.runs], [0, 300, 0, 1024, 4096])
  })

  it('has offsets of the file, also where the stream begins later', async () => {
    const moved = await opened(await save(mappedRam({ begin: 77 })), { offset: 77 })
    assert.deepEqual(bytesOf(moved), { 0: 0x11, 2: 0x33 })
    const copied = Buffer.concat([new Uint8Array(77), mappedRam()])
    const path = await save(copied)
    await refuses(path, 'ERR_SAVED_DAMAGED', /moved to another offset/, { offset: 77 })
  })

  it("after libvirt's header is read in place", async () => {
    const inside = (begin: number): Uint8Array => mappedRam({ begin }).subarray(begin)
    const image = await opened(await save(libvirtImage(inside, { format: 6, wasRunning: 0 })))
    assert.deepEqual(bytesOf(image), { 0: 0x11, 2: 0x33 })
    assert.deepEqual(
      [image.format, image.wasRunning, image.runState],
      ['libvirt', false, 'running'],
    )
  })

  it('loses the capability in its configuration, which the destination does not have', async () => {
    const { configuration } = await opened(await save(mappedRam()))
    assert.equal(Buffer.from(configuration).toString('latin1'), '\x07\0\0\0\x02pc')
  })

  it('without any page and without an END is refused; with an END it is a VM of zeros', async () => {
    const pages = [undefined, undefined]
    const dead = await save(mappedRam({ pages, hasEnd: false }))
    await refuses(dead, 'ERR_SAVED_REFUSED', /background-snapshot/)
    assert.deepEqual(bytesOf(await opened(await save(mappedRam({ pages })))), {})
  })

  it('with wrong numbers in a header is refused, with the block and the offset', async () => {
    const changed = async (at: number, value: bigint): Promise<string> => {
      const bytes = Buffer.from(mappedRam())
      bytes.writeBigUInt64BE(value, at)
      return save(bytes)
    }
    const good = Buffer.from(mappedRam())
    assert.equal(good.readBigUInt64BE(AT.total), 3n * 4096n + 4n)
    const wrong: readonly [at: number, value: bigint, message: RegExp][] = [
      [AT.total, 4n, /begins without the list of RAM blocks/],
      [AT.total, 2n ** 62n + 4n, /total length of RAM is 0x4/],
      [AT.total, 2n ** 50n + 4n, /more than this file can hold/],
      [AT.total, 4096n + 4n, /exceeds the total length/],
      [AT.pageSize, 8192n, /RAM block "m": pages of 8192 bytes/],
      [AT.bitmap, 137n, /its bitmap is at 0x89, not after its header/],
      [PAGES_AT, BigInt(BITS_AT), /overlap its bitmap/],
      [PAGES_AT, 2n ** 63n, /offset of the pages of RAM block "m" is 0x8/],
      [BITS_AT, 0xff00000000000000n, /bits after its last page/],
    ]
    for (const [at, value, message] of wrong) {
      await refuses(await changed(at, value), 'ERR_SAVED_DAMAGED', message)
    }
    const path = await changed(AT.pageSize, 512n)
    const place = new RegExp(`at offset ${AT.header}\\)`)
    await refuses(path, 'ERR_SAVED_DAMAGED', place)
    await refuses(await changed(PAGES_AT, 2n ** 40n), 'ERR_SAVED_TRUNCATED', /before the last page/)
  })

  it('that announces more RAM than its bytes on disk can describe is refused in time', async () => {
    const announcing = async (ramBytes: number): Promise<string> => {
      const bytes = Buffer.from(mappedRam())
      const pagesOffset = 2 ** 28
      bytes.writeBigUInt64BE(BigInt(ramBytes + 4), AT.total)
      bytes.writeBigUInt64BE(BigInt(ramBytes), AT.total + 10)
      bytes.writeBigUInt64BE(BigInt(pagesOffset), PAGES_AT)
      const path = await save(bytes.subarray(0, BITS_AT))
      truncateSync(path, pagesOffset + ramBytes + 4096)
      return path
    }
    const begin = performance.now()
    const path = await announcing(2 ** 41 + 4096)
    await refuses(path, 'ERR_SAVED_DAMAGED', /more than this file can hold/)
    // The bitmap of this much takes 64 MiB; no section ends after its pages.
    await refuses(
      await announcing(2 ** 41),
      'ERR_SAVED_DAMAGED',
      /section START of ram has records/,
    )
    assert(performance.now() - begin < 1000, `${performance.now() - begin} ms`)
  })
})

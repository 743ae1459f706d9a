import assert from 'node:assert/strict'
import { once } from 'node:events'
import net from 'node:net'
import { PackCall, SendCall, duplicateFd, packPages, sendPages } from '../../src/kernel/index.js'
import { cleanups } from '../support/cleanup.js'
import { makeRegion, pageContent } from '../support/memory-kinds.js'
import { decodeRecords, pageSet, pagesIn } from '../support/records.js'

const pages = 64
const name = new TextEncoder().encode('pc.ram')

/** Pages 0 to 63, of which every fourth is zero. */
function filledRegion() {
  const region = makeRegion('anon', pages)
  for (let page = 0; page < pages; page += 1) {
    if (page % 4 !== 3) region.write(page * 4096, pageContent(page))
  }
  return region
}

interface PackOptions {
  from?: number
  to?: number
  hostPages?: number
  maxPages?: number
  name?: Uint8Array
}

const wholeRegion = { wait: 0, from: 0, to: pages, hostPages: 1, maxPages: pages }

function pack(bitmap: Uint8Array, options: PackOptions, room = 2 ** 20, at = 0) {
  const out = new Uint8Array(room)
  const { name: blockName, ...numbers } = options
  const call = Object.assign(new PackCall(), wholeRegion, { outOffset: at }, numbers)
  const bytes = packPages(filledRegion(), bitmap, blockName, out, call)
  const { nextPage: next, normalPages: normal, zeroPages: zero } = call
  return { records: decodeRecords(out.subarray(at, at + bytes)), bytes, next, normal, zero, out }
}

describe('packPages', () => {
  it('writes the set pages of the range, in order, and clears their bits', () => {
    const bitmap = pageSet(pages, 0, 3, 4, 20, 21, 22, 23, 63)
    const { records, bytes, next, normal, zero } = pack(bitmap, { from: 3, to: 63 })
    assert.deepEqual(
      records,
      [3, 4, 20, 21, 22, 23].map((page) => ({
        page,
        name: undefined,
        content: page % 4 === 3 ? undefined : pageContent(page),
      })),
    )
    assert.deepEqual([bytes, next, normal, zero], [4 * 4104 + 2 * 9, 63, 4, 2])
    assert.deepEqual(pagesIn(bitmap), [0, 63])
  })

  it('names the block in the first record only', () => {
    for (const first of [1, 3]) {
      const { records } = pack(pageSet(pages, first, 5, 7), { name })
      assert.deepEqual(
        records.map((each) => [each.page, each.name]),
        [
          [first, 'pc.ram'],
          [5, undefined],
          [7, undefined],
        ],
      )
    }
  })

  it('writes the bytes of the stream: offset, flags, name, content', () => {
    const { out } = pack(pageSet(pages, 2, 3), { name }, 2 ** 14, 5)
    const header = [0, 0, 0, 0, 0, 0, 0x20, 0x08, 6, ...name]
    assert.deepEqual([...out.subarray(5, 20)], header)
    assert.deepEqual(out.slice(20, 20 + 4096), pageContent(2))
    assert.deepEqual([...out.subarray(4116, 4125)], [0, 0, 0, 0, 0, 0, 0x30, 0x22, 0])
    assert.deepEqual([...out.subarray(0, 5)], [0, 0, 0, 0, 0])
    assert.equal(out.subarray(4125).some(Boolean), false)
  })

  it('stops after maxPages, and before a page that does not fit', () => {
    const set = [0, 1, 2, 3, 4, 5]
    const limited = pageSet(pages, ...set)
    assert.deepEqual(pack(limited, { maxPages: 4 }).next, 4)
    assert.deepEqual(pagesIn(limited), [4, 5])

    for (const [room, packed] of [
      [0, 0],
      [4103, 0],
      [4104, 1],
      [3 * 4104 + 8, 3],
      [3 * 4104 + 9, 4],
      [4 * 4104 + 8, 4],
      [4 * 4104 + 9, 5],
      [5 * 4104 + 9, 6],
    ] as const) {
      const bitmap = pageSet(pages, ...set)
      const { records, next } = pack(bitmap, {}, room)
      assert.equal(records.length, packed)
      assert.equal(next, packed === 6 ? pages : packed)
      assert.deepEqual(pagesIn(bitmap), set.slice(packed))
    }
    const named = pageSet(pages, 0)
    assert.equal(pack(named, { name }, 4104 + 6).bytes, 0)
    assert.equal(pack(named, { name }, 4104 + 7).bytes, 4111)
  })

  it('never splits a host page', () => {
    const full = Array.from({ length: 24 }, (_, i) => 8 + i)
    // Two pages of eight are zero, but the required room is as if none were.
    const first = 6 * 4104 + 2 * 9
    for (const [room, maxPages, packed] of [
      [8 * 4104 - 1, 100, 0],
      [8 * 4104, 100, 8],
      [first + 8 * 4104 - 1, 100, 8],
      [first + 8 * 4104, 100, 16],
      [2 ** 20, 1, 8],
      [2 ** 20, 8, 8],
      [2 ** 20, 9, 16],
      [2 ** 20, 100, 24],
    ] as const) {
      const bitmap = pageSet(pages, ...full)
      const { records, next } = pack(bitmap, { hostPages: 8, maxPages }, room)
      assert.deepEqual(
        records.map(({ page }) => page),
        full.slice(0, packed),
      )
      assert.equal(next, packed === 24 ? pages : 8 + packed)
      assert.deepEqual(pagesIn(bitmap), full.slice(packed))
    }
  })

  it('starts a host page only at its beginning', () => {
    const bitmap = pageSet(pages, 17, 18)
    const { records, next } = pack(bitmap, { hostPages: 8, maxPages: 1 })
    assert.deepEqual(
      records.map(({ page }) => page),
      [17, 18],
    )
    assert.equal(next, 24)
  })

  it('rejects ranges outside the region or the bitmap, and invalid names', () => {
    const bitmap = pageSet(pages, 1)
    for (const options of [
      { to: pages + 1 },
      { from: 5, to: 4 },
      { hostPages: 8, from: 4 },
      { hostPages: 0 },
      { name: new Uint8Array(0) },
      { name: new Uint8Array(256) },
    ]) {
      assert.throws(() => pack(bitmap, options), RangeError)
    }
    assert.throws(() => pack(bitmap.subarray(1), {}), RangeError)
    assert.throws(() => pack(bitmap, {}, 10, 11), RangeError)
    for (const field of ['from', 'to', 'hostPages', 'maxPages']) {
      for (const value of [NaN, -1, 0.5, Infinity, 2 ** 53]) {
        const message = `${field} must be an integer of at least 0 and in range`
        assert.throws(() => pack(bitmap, { [field]: value }), { name: 'RangeError', message })
      }
    }
    const region = makeRegion('anon', 1)
    region.close()
    const closed = () => packPages(region, bitmap, undefined, new Uint8Array(1), new PackCall())
    assert.throws(closed, { code: 'ERR_CLOSED' })
  })
})

/** Both ends of a connection, and the descriptor of the first. */
async function connection() {
  const server = net.createServer().listen(0, '127.0.0.1')
  cleanups.add(() => server.close())
  await once(server, 'listening')
  const { port } = server.address() as net.AddressInfo
  const here = net.connect(port, '127.0.0.1').pause()
  const [[there]] = (await Promise.all([once(server, 'connection'), once(here, 'connect')])) as [
    [net.Socket],
    unknown,
  ]
  for (const socket of [here, there]) cleanups.add(() => socket.destroy())
  const handle = Reflect.get(here, '_handle') as { fd: number }
  return { here, there: there.pause(), fd: duplicateFd(handle.fd) }
}

/** Resolves with the received bytes once there are `lengthBytes` of them. */
async function received(socket: net.Socket, lengthBytes: number): Promise<Buffer> {
  let bytes = Buffer.alloc(0)
  while (bytes.length < lengthBytes) {
    const [piece] = (await once(socket.resume(), 'data')) as [Buffer]
    bytes = Buffer.concat([bytes, piece])
  }
  return bytes
}

describe('sendPages', () => {
  const head = [1, 2, 3, 4, 5]

  function send(bitmap: Uint8Array, options: PackOptions & { fd: number; piecePages?: number }) {
    const out = new Uint8Array(2 ** 20)
    out.set(head)
    const { name: blockName, ...numbers } = options
    const defaults = { ...wholeRegion, piecePages: 8, outOffset: head.length }
    const call = Object.assign(new SendCall(), defaults, numbers)
    const end = sendPages(filledRegion(), bitmap, blockName, out, call)
    const { nextPage: next, normalPages: normal, zeroPages: zero } = call
    const { sentBytes, unsentFrom, interrupted: stopped } = call
    return { rest: out.subarray(unsentFrom, end), next, normal, zero, sentBytes, stopped }
  }

  /** The output of packPages for the same pages. */
  function packed(bitmap: Uint8Array, options: PackOptions = {}): Buffer {
    const { out, bytes } = pack(bitmap.slice(), options)
    return Buffer.concat([Buffer.from(head), out.subarray(0, bytes)])
  }

  it('sends the bytes that packPages writes, except for the last piece', async () => {
    const { there, fd } = await connection()
    const bitmap = pageSet(pages, ...Array.from({ length: pages }, (_, page) => page))
    const wanted = packed(bitmap, { name })
    const { rest, next, normal, zero, sentBytes, stopped } = send(bitmap, { fd, name })
    assert.deepEqual([next, normal, zero, stopped], [64, 48, 16, 0])
    // Eight pages, of which two are zero.
    assert.equal(rest.length, 6 * 4104 + 2 * 9)
    assert(Buffer.concat([await received(there, sentBytes), rest]).equals(wanted))
    assert.deepEqual(pagesIn(bitmap), [])
  })

  it('sends nothing of a single piece', async () => {
    const { fd } = await connection()
    const bitmap = pageSet(pages, 1, 2, 9)
    const wanted = packed(bitmap)
    const { rest, sentBytes, stopped } = send(bitmap, { fd })
    assert.deepEqual([sentBytes, stopped], [0, 0])
    assert(wanted.equals(rest))
  })

  it('finishes host pages that are larger', async () => {
    const { there, fd } = await connection()
    const bitmap = pageSet(pages, 1, 2, 17, 18, 33, 63)
    const wanted = packed(bitmap, { hostPages: 16 })
    const { rest, sentBytes } = send(bitmap, { fd, hostPages: 16, piecePages: 1 })
    assert(sentBytes > 0)
    assert(Buffer.concat([await received(there, sentBytes), rest]).equals(wanted))
  })

  it('stops after the piece during which data was received', async () => {
    const { here, there, fd } = await connection()
    const bitmap = pageSet(pages, ...Array.from({ length: pages }, (_, page) => page))
    const wanted = packed(bitmap, { to: 8 })
    await new Promise((resolve) => there.write('a request', resolve))
    // The bytes are in the kernel of this host, because it is one host; Node has not read them.
    assert.equal(here.bytesRead, 0)
    const { rest, next, normal, zero, sentBytes, stopped } = send(bitmap, { fd })
    assert.deepEqual([next, normal, zero, stopped, rest.length], [8, 6, 2, 1, 0])
    assert((await received(there, sentBytes)).equals(wanted))
    assert.deepEqual(pagesIn(bitmap).length, 56)
  })

  it('stops if the socket accepts no more, and returns the rest', async () => {
    const { there, fd } = await connection()
    const region = makeRegion('anon', 4096)
    for (let page = 0; page < 4096; page += 1) region.write(page * 4096, pageContent(page))
    const bitmap = new Uint8Array(512).fill(0xff)
    const out = new Uint8Array(2 ** 20)
    const range = { from: 0, to: 4096, hostPages: 1, maxPages: 4096, outOffset: 0, wait: 0 }
    const call = Object.assign(new SendCall(), range, { fd, piecePages: 64 })
    const end = sendPages(region, bitmap, undefined, out, call)
    const { nextPage: next, sentBytes, unsentFrom, interrupted: stopped } = call
    assert.equal(stopped, 1)
    assert(next < 4096 && end > unsentFrom, `${next} pages, ${end - unsentFrom} bytes left`)
    const bytes = Buffer.concat([await received(there, sentBytes), out.subarray(unsentFrom, end)])
    assert.deepEqual(
      decodeRecords(bytes).map(({ page }) => page),
      Array.from({ length: next }, (_, page) => page),
    )
  })

  it('does not report the error of a broken socket', async () => {
    const { here, there, fd } = await connection()
    there.destroy()
    here.destroy()
    await once(here, 'close')
    const bitmap = pageSet(pages, ...Array.from({ length: pages }, (_, page) => page))
    const { stopped, rest } = send(bitmap, { fd: 2 ** 20 })
    assert.deepEqual([stopped, rest.length], [1, head.length + 6 * 4104 + 2 * 9])
    assert.throws(() => send(bitmap, { fd, piecePages: 0 }), RangeError)
  })
})

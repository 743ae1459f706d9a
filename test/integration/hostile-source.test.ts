/** What a source may send to our destination before the switch, and which connections it rejects. */
import assert from 'node:assert/strict'
import * as stream from '../../src/stream/index.js'
import {
  type Case,
  assertRefused,
  assertTold,
  begin,
  completeAfterPrologue,
  running,
} from '../support/destination-under-test.js'
import {
  FakeSource,
  type PrologueOptions,
  allPages,
  deviceSections,
  discardAll,
  part,
  prologue,
  ramEnd,
} from '../support/fake-peer.js'
import { postcopy } from '../support/migration.js'

const badPrologues: [string, PrologueOptions, string, RegExp][] = [
  [
    'another machine type',
    { machineType: 'toaster' },
    'ERR_PEER_MACHINE',
    /the source is a "toaster", this machine is a "test"/,
  ],
  [
    'a block that does not exist here',
    { blocks: [{ name: 'rom', usedLengthBytes: 4096 }] },
    'ERR_PEER_BLOCK',
    /no RAM block "rom"/,
  ],
  [
    'a block of another length',
    { blocks: [{ name: 'ram', usedLengthBytes: 4096 }] },
    'ERR_PEER_BLOCK',
    /"ram" has 4096 bytes at the source and 262144 here/,
  ],
  [
    'one block less',
    { blocks: [{ name: 'ram', usedLengthBytes: 2 ** 18 }] },
    'ERR_PEER_BLOCK',
    /the source has no RAM block "vram"/,
  ],
  ['larger host pages', { summary: 0x201000 }, 'ERR_PEER_PAGE_SIZE', /0x201000.*0x1000/],
  ['larger target pages', { targetPageSize: 65536 }, 'ERR_PEER_PAGE_SIZE', /65536/],
  [
    'no advise',
    { postcopy: false, returnPath: true },
    'ERR_PEER_CAPABILITY',
    /postcopy-ram is on here/,
  ],
]

describe('a destination refuses, before any page, a source with', () => {
  for (const [what, options, code, text] of badPrologues) {
    it(what, async () => {
      const one = await begin()
      one.source.send(prologue(one.sent, options))
      await assertRefused(one, code, text)
      if (what !== 'another machine type') await assertTold(one)
    })
  }

  it('postcopy while postcopy-ram is off here', async () => {
    const one = await begin({ capabilities: {} })
    one.source.send(prologue(one.sent))
    await assertRefused(one, 'ERR_PEER_CAPABILITY', /postcopy-ram is off here/)
    await assertTold(one)
  })
})

const misplaced: [string, boolean, (out: stream.Writer, one: Case) => void, string][] = [
  ['LISTEN outside of a package', true, (out) => stream.encodeListen(out), 'ERR_STREAM_PACKAGE'],
  ['RUN outside of a package', true, (out) => stream.encodeRun(out), 'ERR_STREAM_PACKAGE'],
  ['RESUME', true, (out) => stream.encodeResume(out), 'ERR_STATE_COMMAND'],
  ['RECV_BITMAP', true, (out) => stream.encodeRecvBitmapRequest(out, 'ram'), 'ERR_STATE_COMMAND'],
  ['a second advise', true, (out) => stream.encodeAdvise(out, 4096, 4096), 'ERR_STATE_COMMAND'],
  [
    'a discard without advise',
    false,
    (out) => stream.encodeRamDiscard(out, 'ram', [0, 4096]),
    'ERR_STATE_COMMAND',
  ],
  [
    'a discard after the block',
    true,
    (out) => stream.encodeRamDiscard(out, 'ram', [2 ** 18, 4096]),
    'ERR_STREAM_RANGE',
  ],
  [
    'a discard of half a page',
    true,
    (out) => stream.encodeRamDiscard(out, 'ram', [0, 2048]),
    'ERR_STREAM_RANGE',
  ],
  [
    'a discard of an unknown block',
    true,
    (out) => stream.encodeRamDiscard(out, 'rom', [0, 4096]),
    'ERR_STREAM_BLOCK',
  ],
  [
    'repeated discards of a whole block',
    true,
    (out) =>
      stream.encodeRamDiscard(out, 'ram', Array.from({ length: 100 }, () => [0, 2 ** 18]).flat()),
    'ERR_PEER_DISCARD',
  ],
  ['an unknown command', true, (out) => out.u8(8).u16(99).u16(0), 'ERR_STREAM_COMMAND'],
  ['command 0', true, (out) => out.u8(8).u16(0).u16(0), 'ERR_STREAM_COMMAND'],
  ['ENABLE_COLO', true, (out) => out.u8(8).u16(8).u16(0), 'ERR_STREAM_CAPABILITY'],
  ['a PING of another length', true, (out) => out.u8(8).u16(2).u16(2).u16(1), 'ERR_STREAM_COMMAND'],
  ['an unknown element', true, (out) => out.u8(0x55), 'ERR_STREAM_ELEMENT'],
  ['EOF before the END of ram', true, (out) => stream.encodeEndOfStream(out), 'ERR_STREAM_ELEMENT'],
  [
    'a page after the block',
    true,
    (out) => out.bytes(part((records) => stream.encodeRamZero(records, 'ram', 2 ** 18))),
    'ERR_STREAM_RANGE',
  ],
  [
    'a page of an unknown block',
    true,
    (out) => out.bytes(part((records) => stream.encodeRamZero(records, 'rom', 0))),
    'ERR_STREAM_BLOCK',
  ],
  [
    'a page with an unknown flag',
    true,
    (out) => out.bytes(part((records) => records.u64(0x808))),
    'ERR_STREAM_RAM_FLAGS',
  ],
]

describe('a destination fails and sends SHUT 1 if a source sends', () => {
  for (const [what, advised, build, code] of misplaced) {
    it(what, async () => {
      const one = await begin({ capabilities: advised ? postcopy : {} })
      one.source.send(prologue(one.sent, { postcopy: advised, returnPath: true }))
      one.source.send((out) => {
        build(out, one)
      })
      await assertRefused(one, code)
      await assertTold(one)
    })
  }

  it('PING before OPEN_RETURN_PATH', async () => {
    const one = await begin({ capabilities: {} })
    one.source.send(prologue(one.sent, { postcopy: false }))
    one.source.send((out) => stream.encodePing(out, 1))
    await assertRefused(one, 'ERR_STATE_COMMAND', /PING 1 before OPEN_RETURN_PATH/)
  })

  it('the end of the migration before all pages', async () => {
    const one = await begin({ capabilities: {} })
    one.source.send(prologue(one.sent, { postcopy: false, returnPath: true }))
    one.source.send(ramEnd())
    one.source.send((out) => {
      out.bytes(deviceSections(one.sent))
      stream.encodeEndOfStream(out)
      stream.encodeVmDescription(out, '{}')
    })
    await assertRefused(one, 'ERR_PEER_INCOMPLETE', /64 pages of "ram"/)
    await assertTold(one)
  })

  it('EOF after a discard, without a package', async () => {
    const one = await begin()
    one.source.send(prologue(one.sent))
    one.source.send(discardAll(one.sent))
    one.source.send(part(allPages(one.sent)))
    one.source.send(ramEnd())
    one.source.send((out) => stream.encodeEndOfStream(out))
    await assertRefused(one, 'ERR_STATE_COMMAND', /EOF after a discard/)
  })
})

describe('a destination', () => {
  it('rejects a second connection, and continues with the first', async () => {
    const one = await begin()
    one.source.send(prologue(one.sent))
    await one.source.heard('pong', 1)
    const second = await FakeSource.connect(one.destination.uri, one.machine)
    await second.hangsUp()
    await completeAfterPrologue(one)
  })

  it('rejects a connection while the guest runs here', async () => {
    const one = await running()
    const second = await FakeSource.connect(one.destination.uri, one.machine)
    await second.hangsUp()
    assert.equal(one.destination.state, 'postcopy-active')
  })

  it('fails if a source closes before the end of its precopy', async () => {
    const one = await begin()
    one.source.send(prologue(one.sent))
    one.source.send(part(allPages(one.sent)))
    one.source.end()
    await assertRefused(one, 'ERR_CONNECTION_CLOSED')
    await assertTold(one)
  })

  it('fails before any page if its memory cannot be registered with userfaultfd', async () => {
    const one = await begin()
    one.machine.occupy()
    one.source.send(prologue(one.sent))
    await assertRefused(one, 'EBUSY', /UFFDIO_REGISTER/)
    await assertTold(one)
  })
})

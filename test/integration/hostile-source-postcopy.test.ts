/** What a source may send to our destination while the guest runs there, and what pauses it. */
import assert from 'node:assert/strict'
import * as stream from '../../src/stream/index.js'
import {
  type Case,
  begin,
  complete,
  completeAfterPrologue,
  running,
} from '../support/destination-under-test.js'
import {
  allPages,
  deviceSections,
  discardAll,
  packageOf,
  part,
  prologue,
  ramEnd,
} from '../support/fake-peer.js'
import { ended } from '../support/migration.js'

/** The guest still runs here, so the source must not receive SHUT 1. */
async function assertPaused(one: Case, code: string): Promise<void> {
  await ended(one.destination)
  assert.equal(one.destination.state, 'postcopy-paused')
  assert.match(one.destination.error?.code ?? '', new RegExp(`^(${code})$`))
  assert.equal(one.machine.running, true)
  await one.source.hangsUp()
  assert.deepEqual(one.source.all('shut'), [])
}

describe('a destination that runs the guest', () => {
  it('accepts pages in any order, and sends SHUT 0 after EOF, not before', async () => {
    const one = await running()
    one.source.send(part(allPages(one.sent)))
    one.source.send((out) => stream.encodePing(out, 77))
    await one.source.heard('pong', 77)
    assert.deepEqual(one.source.all('shut'), [])
    one.source.send(ramEnd())
    one.source.send((out) => stream.encodeEndOfStream(out))
    await one.source.heard('shut', 0)
    await one.destination.done
    assert(one.machine.content('ram').equals(one.sent.content('ram')))
    assert.deepEqual(one.states, [
      'setup',
      'active',
      'postcopy-device',
      'postcopy-active',
      'completed',
    ])
  })

  it('answers the pings of the package, and those around it', async () => {
    const one = await running()
    one.source.send((out) => stream.encodePing(out, 4))
    await one.source.heard('pong', 4)
    const pongs = one.source.all('pong').map(([, value]) => value)
    assert.deepEqual(pongs, [1, 3, 0x42, 4])
  })

  it('accepts pages in the END of ram, as QEMU 7.2 sends them', async () => {
    const one = await running()
    await complete(one)
    assert(one.machine.content('vram').equals(one.sent.content('vram')))
  })

  it('accepts SWITCHOVER_START and empty PARTs', async () => {
    const one = await begin()
    one.source.send(prologue(one.sent))
    one.source.send(part(() => undefined))
    one.source.send((out) => stream.encodeSwitchoverStart(out))
    await completeAfterPrologue(one)
  })

  it('pauses at a page that is received twice, and keeps the first copy', async () => {
    const one = await running()
    one.source.send(part((out) => stream.encodeRamPage(out, 'ram', 4096, Buffer.alloc(4096, 7))))
    one.source.send(part((out) => stream.encodeRamPage(out, 'ram', 4096, Buffer.alloc(4096, 8))))
    await assertPaused(one, 'ERR_PEER_PAGE')
    assert.equal(one.machine.byteAt('ram', 4096), 7)
  })

  it('pauses at EOF while pages are owed', async () => {
    const one = await running()
    one.source.send(ramEnd())
    one.source.send((out) => stream.encodeEndOfStream(out))
    await assertPaused(one, 'ERR_PEER_INCOMPLETE')
  })

  const afterwards: [string, (one: Case) => void, string][] = [
    ['the connection breaks', (one) => one.source.reset(), 'ECONNRESET|ERR_CONNECTION_CLOSED'],
    ['the source closes', (one) => one.source.end(), 'ERR_CONNECTION_CLOSED'],
    ['garbage is received', (one) => one.source.send(Buffer.alloc(16, 0xee)), 'ERR_STREAM_ELEMENT'],
    [
      'a second package is received',
      (one) => one.source.send(packageOf(one.sent)),
      'ERR_STREAM_PACKAGE',
    ],
    ['a discard is received', (one) => one.source.send(discardAll(one.sent)), 'ERR_STATE_COMMAND'],
    [
      'a device section is received',
      (one) => one.source.send(deviceSections(one.sent)),
      'ERR_STREAM_ELEMENT',
    ],
    [
      'a page is received before any block',
      (one) => one.source.send(part((out) => stream.encodeRamZero(out, 'rom', 0))),
      'ERR_STREAM_BLOCK',
    ],
  ]
  for (const [what, act, code] of afterwards) {
    it(`pauses when ${what}`, async () => {
      const one = await running()
      act(one)
      await assertPaused(one, code)
    })
  }
})

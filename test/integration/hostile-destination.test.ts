/**
 * What a destination may send to our source, and what not; and which end has the guest afterwards.
 */
import assert from 'node:assert/strict'
import type { MigrationState } from '../../src/migration/states.js'
import type { Source, SourceOptions } from '../../src/source/index.js'
import * as stream from '../../src/stream/index.js'
import { FakeDestination } from '../support/fake-peer.js'
import { ended, migrateTo, postcopy, reached, standstill, statesOf } from '../support/migration.js'
import { TestMachine, type TestMachineOptions } from '../support/test-machine.js'

const machineOptions: TestMachineOptions = { blocks: { ram: 2 ** 20, vram: 2 ** 18 } }

interface Case {
  readonly machine: TestMachine
  readonly source: Source
  readonly peer: FakeDestination
  readonly states: MigrationState[]
}

/** Starts a migration of a small running machine to a scripted destination. */
async function begin(
  options: Partial<SourceOptions> & { now?: boolean } = {},
  prepare: (peer: FakeDestination) => void = () => undefined,
): Promise<Case> {
  const { now = true, ...rest } = options
  const machine = new TestMachine(machineOptions)
  machine.fill()
  machine.start()
  const peer = await FakeDestination.listen()
  prepare(peer)
  const source = migrateTo(peer.uri, machine, { capabilities: postcopy, ...rest })
  if (now) source.startPostcopy()
  return { machine, source, peer, states: statesOf(source) }
}

/** Error codes of a broken connection, depending on which end notices first. */
const broken = ['ECONNRESET', 'EPIPE', 'ERR_CONNECTION_CLOSED']

/** A destination that never answers that it has loaded the package. */
function unloaded(peer: FakeDestination): void {
  const answer = peer.onPing
  peer.onPing = (value) => {
    if (value !== stream.PingValue.packageLoaded) answer(value)
  }
}

/** The guest runs here, and nowhere else. */
async function assertKept({ machine, source, peer }: Case, ...codes: string[]): Promise<void> {
  await ended(source)
  assert.equal(source.state, 'failed')
  assert(codes.includes(source.error?.code ?? ''), String(source.error))
  assert.equal(machine.running, true)
  await peer.hangsUp()
}

/** The guest may run at the destination: it does not run here, and every page is kept. */
async function assertPaused({ machine, source }: Case, ...codes: string[]): Promise<void> {
  await ended(source)
  assert.equal(source.state, 'postcopy-paused')
  assert(codes.includes(source.error?.code ?? ''), String(source.error))
  assert.equal(machine.running, false)
  const other = new TestMachine(machineOptions)
  other.fill()
  assert(machine.content('ram').equals(other.content('ram')), 'every page is kept')
}

describe('a source whose destination', () => {
  it('confirms everything releases the guest', async () => {
    const { machine, source, peer, states } = await begin()
    await peer.heard('endOfStream')
    assert.equal(source.state, 'postcopy-active')
    peer.shut(0)
    await source.done
    assert.deepEqual(states.slice(1), [
      'setup',
      'active',
      'device',
      'postcopy-device',
      'postcopy-active',
      'completed',
    ])
    assert.equal(machine.running, false)
    assert.equal(peer.refused, undefined)
  })

  it('sends nothing at the end waits, and keeps every page', async () => {
    const one = await begin()
    await one.peer.heard('endOfStream')
    one.peer.reset()
    await assertPaused(one, ...broken)
  })

  it('closes without SHUT pauses', async () => {
    const one = await begin()
    await one.peer.heard('endOfStream')
    one.peer.end()
    await assertPaused(one, ...broken)
  })

  for (const postcopyAtOnce of [false, true]) {
    it(`never answers keeps its guest running, postcopyAtOnce ${postcopyAtOnce}`, async () => {
      const parameters = { 'x-timeout': 200 }
      const one = await begin({ now: false, parameters, postcopyAtOnce }, (peer) => {
        peer.onPing = () => undefined
      })
      await assertKept(one, 'ETIMEDOUT')
      assert.match(one.source.error?.message ?? '', /multifd and postcopy-preempt the same on both/)
      assert.equal(one.machine.stops, 0, 'it was never stopped')
    })
  }

  it('sends SHUT 1 during precopy keeps its guest', async () => {
    const one = await begin({ now: false, parameters: standstill })
    await one.peer.heard('ping')
    one.peer.shut(1)
    await assertKept(one, 'ERR_PEER_REFUSED')
    assert.equal(one.machine.stops, 0, 'it was never stopped')
  })

  it('sends SHUT 1 instead of loading the package resumes its guest', async () => {
    const one = await begin({}, unloaded)
    await one.peer.heard('packaged')
    one.peer.shut(1)
    await assertKept(one, 'ERR_PEER_REFUSED')
    assert.equal(one.machine.stops, 1)
  })

  it('sends SHUT 1 after it has loaded the package pauses, so that only one guest runs', async () => {
    const one = await begin()
    await reached(one.source, 'postcopy-active')
    one.peer.shut(1)
    await assertPaused(one, 'ERR_PEER_REFUSED')
  })

  it('sends SHUT 0 too early, before the switch, fails', async () => {
    const one = await begin({ now: false, parameters: standstill })
    await one.peer.heard('ping')
    one.peer.shut(0)
    await assertKept(one, 'ERR_PEER_PROTOCOL')
  })

  it('sends SHUT 0 too early, after the switch, pauses', async () => {
    const one = await begin({ parameters: { 'max-postcopy-bandwidth': 1 } })
    await reached(one.source, 'postcopy-active')
    one.peer.shut(0)
    await assertPaused(one, 'ERR_PEER_PROTOCOL')
  })

  it('sends SHUT 1 after a complete precopy resumes its guest', async () => {
    const one = await begin({ now: false })
    await one.peer.heard('endOfStream')
    one.peer.shut(1)
    await assertKept(one, 'ERR_PEER_REFUSED')
  })

  it('breaks off after a complete precopy leaves the guest stopped, and advises how to start it', async () => {
    const one = await begin({ now: false })
    await one.peer.heard('endOfStream')
    one.peer.reset()
    await ended(one.source)
    assert.equal(one.source.state, 'failed')
    assert.equal(one.source.error?.code, 'ERR_CONNECTION_UNCONFIRMED')
    assert.match(
      String(one.source.error),
      /start the guest here \(cont\) only if the destination has failed or has ended/,
    )
    assert.equal(one.machine.running, false)
  })

  it('breaks off during precopy keeps its guest', async () => {
    const one = await begin({ now: false, parameters: standstill })
    await one.peer.heard('ping')
    one.peer.reset()
    await assertKept(one, ...broken)
  })

  for (const [how, capabilities] of [
    ['with a return path', postcopy],
    ['without a return path', {}],
  ] as const) {
    it(`dies after megabytes, ${how}, gives no advice about the set-up`, async () => {
      const machine = new TestMachine({ blocks: { ram: 32 * 2 ** 20 } })
      machine.fill()
      machine.start()
      const peer = await FakeDestination.listen()
      const parameters = { 'max-bandwidth': 16 * 2 ** 20 }
      const source = migrateTo(peer.uri, machine, { capabilities, parameters })
      await peer.until(() => peer.bytes.reduce((sum, { length }) => sum + length, 0) > 3e6)
      peer.reset()
      await ended(source)
      assert.match(
        source.error?.message ?? '',
        /closed the connection after \d.* MiB without a reason/,
      )
    })
  }

  it('closes before it answers advises to compare the set-up', async () => {
    const one = await begin({ now: false, parameters: standstill }, (peer) => {
      peer.onPing = () => undefined
    })
    await one.peer.heard('ping')
    one.peer.reset()
    await ended(one.source)
    assert.match(one.source.error?.message ?? '', /Are machine, capabilities .* the same/)
  })

  it('breaks off in the middle of a large package resumes its guest', async () => {
    const machine = new TestMachine(machineOptions)
    machine.fill()
    machine.start()
    // More than both socket buffers hold, so the source cannot have written all of it.
    machine.devices.set('large', new Uint8Array(48 * 2 ** 20))
    const peer = await FakeDestination.listen()
    const source = migrateTo(peer.uri, machine, { capabilities: postcopy })
    source.startPostcopy()
    await reached(source, 'device')
    peer.deafen()
    peer.reset()
    await ended(source)
    assert.equal(source.state, 'failed')
    assert.equal(machine.running, true)
  })

  it('breaks off after the package pauses, because the destination may run the guest', async () => {
    const one = await begin({}, unloaded)
    await one.peer.heard('packaged')
    one.peer.reset()
    await assertPaused(one, ...broken)
  })

  it('sends data after SHUT reports an error', async () => {
    const one = await begin({ now: false, parameters: standstill })
    await one.peer.heard('ping')
    one.peer.send((out) => {
      stream.encodeShut(out, 1)
      stream.encodePong(out, 1)
    })
    await ended(one.source)
    assert.equal(one.source.state, 'failed')
    assert.equal(one.machine.running, true)
  })

  const badRequests: [string, string, (peer: FakeDestination) => void][] = [
    ['requests a page after the block', 'ERR_STREAM_RANGE', (peer) => peer.request('ram', 2 ** 20)],
    [
      'requests a page at an unaligned offset',
      'ERR_STREAM_RANGE',
      (peer) => peer.request('ram', 100),
    ],
    ['requests half a page', 'ERR_STREAM_RANGE', (peer) => peer.request('ram', 0, 2048)],
    ['requests no page', 'ERR_STREAM_RANGE', (peer) => peer.request('ram', 0, 0)],
    ['requests a page of an unknown block', 'ERR_STREAM_BLOCK', (peer) => peer.request('rom', 0)],
    [
      'requests a page before naming a block',
      'ERR_STREAM_BLOCK',
      (peer) => peer.request(undefined, 0),
    ],
    [
      'sends an unknown message',
      'ERR_STREAM_RETURN_PATH',
      (peer) => peer.send(Buffer.alloc(64, 9)),
    ],
    [
      'sends RECV_BITMAP without a recovery',
      'ERR_PEER_PROTOCOL',
      (peer) => peer.send((out) => stream.encodeRecvBitmap(out, 'ram', new Uint8Array(32))),
    ],
    [
      'sends RESUME_ACK without a recovery',
      'ERR_PEER_PROTOCOL',
      (peer) => peer.send((out) => stream.encodeResumeAck(out)),
    ],
  ]
  for (const [what, code, ask] of badRequests) {
    it(`${what} before the switch keeps its guest`, async () => {
      const one = await begin({ now: false, parameters: standstill })
      await one.peer.heard('ping')
      ask(one.peer)
      await assertKept(one, code)
    })

    it(`${what} after the switch pauses`, async () => {
      const one = await begin({ parameters: { 'max-postcopy-bandwidth': 1 } })
      await reached(one.source, 'postcopy-active')
      ask(one.peer)
      await assertPaused(one, code)
    })
  }

  it('requests all of RAM again and again sends each page once, and the migration ends', async () => {
    const { machine, source, peer } = await begin({ parameters: standstill })
    await peer.heard('ping')
    const all = stream.encode((out) => {
      for (let i = 0; i < 50_000; i += 1) stream.encodePageRequest(out, 'ram', 0, 2 ** 20)
    })
    peer.send(all)
    await peer.heard('packaged')
    peer.send(all)
    await peer.heard('endOfStream')
    peer.shut(0)
    await source.done
    const switched = peer.events.findIndex(([name]) => name === 'packaged')
    const pages = peer.events
      .slice(switched)
      .flatMap(([name, block, offset]) =>
        name === 'ramPage' || name === 'ramZero' ? [`${String(block)}:${String(offset)}`] : [],
      )
    assert(pages.length > 0)
    assert.equal(new Set(pages).size, pages.length)
    assert.equal(machine.running, false)
  })

  it('stops reading can still be cancelled', async () => {
    const machine = new TestMachine({ blocks: { ram: 32 * 2 ** 20 } })
    machine.fill(1, 1000)
    machine.start()
    const peer = await FakeDestination.listen()
    const source = migrateTo(peer.uri, machine, { parameters: { 'max-bandwidth': 0 } })
    await peer.heard('ramBlocks')
    peer.deafen()
    await reached(source, 'active')
    source.cancel()
    await ended(source)
    assert.equal(source.state, 'cancelled')
    assert.equal(machine.running, true)
  })

  it('stops reading while the package is sent can still be cancelled', async () => {
    const machine = new TestMachine(machineOptions)
    machine.fill()
    machine.start()
    machine.devices.set('large', new Uint8Array(48 * 2 ** 20))
    const peer = await FakeDestination.listen()
    const source = migrateTo(peer.uri, machine, { capabilities: postcopy })
    source.startPostcopy()
    await reached(source, 'device')
    peer.deafen()
    source.cancel()
    await ended(source)
    assert.equal(source.state, 'cancelled')
    assert.equal(machine.running, true)
  })

  it('reads slowly, without a return path, completes only after the last byte was read', async () => {
    const machine = new TestMachine({ blocks: { ram: 2 ** 20 } })
    machine.fill()
    machine.start()
    // The last bytes describe every device: more than the kernel accepts at once.
    for (let number = 0; number < 30_000; number += 1) {
      machine.devices.set(`device ${number}`, new Uint8Array(1))
    }
    const peer = await FakeDestination.listen()
    const source = migrateTo(peer.uri, machine)
    await reached(source, 'device')
    while (source.state !== 'completed') await peer.sip()
    peer.drink()
    await peer.hangsUp()
    assert.equal(peer.refused, undefined)
    assert.deepEqual(peer.all('endOfStream'), [['endOfStream']])
  })
})

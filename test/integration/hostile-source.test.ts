/** What a source may send to our destination, and what not. */
import assert from 'node:assert/strict'
import type { Destination, DestinationOptions } from '../../src/destination/destination.js'
import type { MigrationState } from '../../src/migration/states.js'
import * as stream from '../../src/stream/index.js'
import {
  FakeSource,
  type PrologueOptions,
  allPages,
  deviceSections,
  discardAll,
  packageOf,
  part,
  prologue,
  ramEnd,
} from '../support/fake-peer.js'
import { ended, listenFor, postcopy, reached, statesOf } from '../support/migration.js'
import { TestMachine, type TestMachineOptions } from '../support/test-machine.js'

const blocks = { ram: 2 ** 18, vram: 2 ** 16 }

interface Case {
  readonly sent: TestMachine
  readonly machine: TestMachine
  readonly destination: Destination
  readonly source: FakeSource
  readonly states: MigrationState[]
}

/** A listening destination, and a scripted source that is connected to it. */
async function begin(
  options: Partial<DestinationOptions> & { machine?: TestMachineOptions } = {},
): Promise<Case> {
  const { machine: machineOptions = { blocks }, ...rest } = options
  const sent = new TestMachine(machineOptions)
  sent.fill()
  const machine = new TestMachine(machineOptions)
  const destination = await listenFor(machine, { capabilities: postcopy, ...rest })
  const states = statesOf(destination)
  const source = await FakeSource.connect(destination.uri, machine)
  return { sent, machine, destination, source, states }
}

/** The destination fails and sends SHUT 1, and the guest has never run here. */
async function assertRefused(one: Case, code: string, text?: RegExp): Promise<void> {
  await ended(one.destination)
  assert.equal(one.destination.state, 'failed', String(one.destination.error))
  assert.equal(one.destination.error?.code, code, String(one.destination.error))
  if (text !== undefined) assert.match(one.destination.error.message, text)
  assert.equal(one.machine.starts, 0)
}

async function assertTold(one: Case): Promise<void> {
  await one.source.heard('shut', 1)
}

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

/** Everything of a postcopy except its pages. */
function upToPackage(one: Case): void {
  one.source.send(prologue(one.sent))
  one.source.send(discardAll(one.sent))
  one.source.send(packageOf(one.sent))
}

const badPackages: [string, (one: Case) => Uint8Array, string][] = [
  [
    'that does not begin with LISTEN',
    (one) =>
      stream.encode((out) => {
        out.bytes(deviceSections(one.sent))
        stream.encodeListen(out)
        stream.encodeRun(out)
      }),
    'ERR_STREAM_PACKAGE',
  ],
  [
    'with a second LISTEN',
    (one) =>
      stream.encode((out) => {
        stream.encodeListen(out)
        out.bytes(deviceSections(one.sent))
        stream.encodeListen(out)
        stream.encodeRun(out)
      }),
    'ERR_STREAM_PACKAGE',
  ],
  [
    'without RUN',
    (one) =>
      stream.encode((out) => {
        stream.encodeListen(out)
        out.bytes(deviceSections(one.sent))
      }),
    'ERR_STREAM_PACKAGE',
  ],
  [
    'with data after RUN',
    (one) =>
      stream.encode((out) => {
        stream.encodeListen(out)
        out.bytes(deviceSections(one.sent))
        stream.encodeRun(out)
        stream.encodePing(out, 3)
      }),
    'ERR_STREAM_PACKAGE',
  ],
  [
    'within a package',
    (one) =>
      stream.encode((out) => {
        stream.encodeListen(out)
        stream.encodePackaged(out, stream.encodePackage(deviceSections(one.sent)))
        stream.encodeRun(out)
      }),
    'ERR_STREAM_PACKAGE',
  ],
  [
    'with pages in it',
    () =>
      stream.encode((out) => {
        stream.encodeListen(out)
        out.bytes(part((records) => stream.encodeRamZero(records, 'ram', 0)))
        stream.encodeRun(out)
      }),
    'ERR_STREAM_PACKAGE',
  ],
]

describe('a destination refuses a package', () => {
  for (const [what, build, code] of badPackages) {
    it(what, async () => {
      const one = await begin()
      one.source.send(prologue(one.sent))
      one.source.send(discardAll(one.sent))
      one.source.send(stream.encode((out) => stream.encodePackaged(out, build(one))))
      await assertRefused(one, code)
      await assertTold(one)
    })
  }

  it('over its limit, before it is read', async () => {
    const one = await begin({ parameters: { 'x-max-package-bytes': 4096 } })
    one.source.send(prologue(one.sent))
    one.source.send(discardAll(one.sent))
    one.source.send((out) => stream.encodePackagedHeader(out, 4097))
    await assertRefused(one, 'ERR_STREAM_LIMIT', /4097/)
  })

  it('without an advise before it', async () => {
    const one = await begin({ capabilities: {} })
    one.source.send(prologue(one.sent, { postcopy: false, returnPath: true }))
    one.source.send(packageOf(one.sent))
    await assertRefused(one, 'ERR_STATE_COMMAND', /PACKAGED is not valid in this phase/)
  })

  it('if a page was neither sent nor discarded', async () => {
    const one = await begin()
    one.source.send(prologue(one.sent))
    one.source.send((out) => stream.encodeRamDiscard(out, 'vram', [0, 2 ** 16]))
    one.source.send(packageOf(one.sent))
    await assertRefused(one, 'ERR_PEER_DISCARD', /"ram": the page at 0 was neither/)
    await assertTold(one)
  })

  it('with an unknown device', async () => {
    const one = await begin({
      machine: {
        blocks,
        onLoad: (idstr) => {
          throw new Error(`no device ${idstr}`)
        },
      },
    })
    upToPackage(one)
    await assertRefused(one, 'ERR_MACHINE_HOOK', /no device state/)
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

/** A migration that is complete except for its pages: the guest runs here. */
async function running(options: TestMachineOptions = { blocks }): Promise<Case> {
  const one = await begin({ machine: options })
  upToPackage(one)
  await reached(one.destination, 'postcopy-active')
  return one
}

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
    one.source.send(ramEnd(allPages(one.sent)))
    one.source.send((out) => stream.encodeEndOfStream(out))
    await one.destination.done
    assert(one.machine.content('vram').equals(one.sent.content('vram')))
  })

  it('accepts SWITCHOVER_START and empty PARTs', async () => {
    const one = await begin()
    one.source.send(prologue(one.sent))
    one.source.send(part(() => undefined))
    one.source.send((out) => stream.encodeSwitchoverStart(out))
    one.source.send(discardAll(one.sent))
    one.source.send(packageOf(one.sent))
    one.source.send(ramEnd(allPages(one.sent)))
    one.source.send((out) => stream.encodeEndOfStream(out))
    await one.destination.done
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

describe('a destination', () => {
  it('rejects a second connection, and continues with the first', async () => {
    const one = await begin()
    one.source.send(prologue(one.sent))
    await one.source.heard('pong', 1)
    const second = await FakeSource.connect(one.destination.uri, one.machine)
    await second.hangsUp()
    one.source.send(discardAll(one.sent))
    one.source.send(packageOf(one.sent))
    one.source.send(ramEnd(allPages(one.sent)))
    one.source.send((out) => stream.encodeEndOfStream(out))
    await one.destination.done
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

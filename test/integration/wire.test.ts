/** What our source sends, as a scripted destination receives it. */
import assert from 'node:assert/strict'
import { PUSH_NEVER } from '../../src/migration/options.js'
import type { Source, SourceOptions } from '../../src/source/index.js'
import * as stream from '../../src/stream/index.js'
import { FakeDestination } from '../support/fake-peer.js'
import { describeKinds } from '../support/memory-kinds.js'
import { migrateTo, postcopy, reached } from '../support/migration.js'
import { TestMachine, type TestMachineOptions } from '../support/test-machine.js'

interface Case {
  readonly machine: TestMachine
  readonly source: Source
  readonly peer: FakeDestination
}

/** So low that one batch uses it up: the source then stops until the limit is raised. */
const oneBatch = 1
const BATCH_PAGES = 128

async function begin(
  machineOptions: TestMachineOptions,
  options: Partial<SourceOptions> = {},
): Promise<Case> {
  const machine = new TestMachine(machineOptions)
  machine.fill()
  machine.devices.set('nic', Buffer.from('some state'))
  machine.start()
  const peer = await FakeDestination.listen()
  const source = migrateTo(peer.uri, machine, { capabilities: postcopy, ...options })
  return { machine, source, peer }
}

async function finish({ source, peer }: Case): Promise<void> {
  await peer.heard('endOfStream')
  peer.shut(0)
  await source.done
  assert.equal(peer.refused, undefined)
}

/** Pages in their order on the wire, as `block:page`, from an event on. */
function pagesOf(peer: FakeDestination, from = 0): string[] {
  return peer.events.slice(from).flatMap(([name, block, offset]) => {
    if (name !== 'ramPage' && name !== 'ramZero') return []
    return [`${String(block)}:${Number(offset) / 4096}`]
  })
}

function packageIndex(peer: FakeDestination): number {
  return peer.events.findIndex(([name]) => name === 'packaged')
}

/** The pages that discards name, in order. */
function discardedPages(peer: FakeDestination): string[] {
  return peer.all('ramDiscard').flatMap(([, block, ranges]) => {
    const numbers = ranges as number[]
    const pages: string[] = []
    for (let at = 0; at < numbers.length; at += 2) {
      const first = (numbers[at] ?? 0) / 4096
      const count = (numbers[at + 1] ?? 0) / 4096
      for (let page = first; page < first + count; page += 1) {
        pages.push(`${String(block)}:${page}`)
      }
    }
    return pages
  })
}

async function recordPrecopy(capabilities: SourceOptions['capabilities']): Promise<Buffer> {
  const machine = { blocks: { ram: 2 ** 21, vram: 2 ** 19 } }
  const one = await begin(machine, { ...(capabilities === undefined ? {} : { capabilities }) })
  if (capabilities === undefined) throw new Error('no capabilities')
  await one.peer.heard('vmDescription')
  if (Object.keys(capabilities).length > 0) one.peer.shut(0)
  await one.source.done
  assert.equal(one.peer.refused, undefined)
  return Buffer.concat(one.peer.bytes)
}

describe('the stream of a source', () => {
  it('with postcopy on equals plain precopy, except for return path, ping and advise', async () => {
    const plain = await recordPrecopy({})
    const able = await recordPrecopy(postcopy)
    const extra = stream.encode((out) => {
      stream.encodeOpenReturnPath(out)
      stream.encodePing(out, 1)
      stream.encodeAdvise(out, 4096, 4096)
    })
    const configured = stream.encode((out) => {
      stream.encodeFileHeader(out)
      stream.encodeConfiguration(out, 'test')
    })
    const at = configured.length
    assert(plain.subarray(0, at).equals(configured))
    assert(able.subarray(0, at).equals(configured))
    assert(able.subarray(at, at + extra.length).equals(extra))
    assert(able.subarray(at + extra.length).equals(plain.subarray(at)), 'the rest is the same')
    assert(plain.length > 2 ** 20, 'and not empty')
  })

  it('ends a precopy with END, devices, EOF and a description of their lengths', async () => {
    const { source, peer } = await begin({ blocks: { ram: 2 ** 18 } }, { capabilities: {} })
    await source.done
    await peer.heard('vmDescription')
    const names = peer.events.map(([name]) => name).filter((name) => !name.startsWith('ramPage'))
    assert.deepEqual(names.slice(-6), [
      'sectionEnd',
      'ramEndOfSection',
      'footer',
      'deviceTail',
      'endOfStream',
      'vmDescription',
    ])
    const [json] = peer.all('vmDescription')[0]?.slice(1) ?? []
    const described = JSON.parse(String(json)) as { devices: { name: string }[] }
    assert.deepEqual(
      described.devices.map(({ name }) => name),
      ['nic', 'state'],
    )
  })

  it('sends ping 2, package and ping 4 at the switch, and LISTEN, pings and RUN inside', async () => {
    const one = await begin({ blocks: { ram: 2 ** 20 } })
    one.source.startPostcopy()
    await finish(one)
    const { peer } = one
    const around = peer.events.slice(packageIndex(peer) - 1, packageIndex(peer) + 2)
    assert.deepEqual(around[0], ['ping', 2])
    assert.deepEqual(around[2], ['ping', 4])
    const blob = peer.package ?? new Uint8Array()
    const { pings } = stream.findPackagePings(blob)
    assert.deepEqual(pings, [3, 0x42])
    const seen: string[] = []
    stream.decodePackage(blob, {
      listen: () => seen.push('LISTEN'),
      device: ({ idstr }, body) => {
        seen.push(idstr)
        body.bytes(body.u32())
      },
      ping: (value) => seen.push(`PING ${value}`),
      run: () => seen.push('RUN'),
    })
    assert.deepEqual(seen, ['LISTEN', 'nic', 'state', 'PING 3', 'PING 66', 'RUN'])
  })

  it('ends postcopy with an empty END and EOF, and sends nothing more', async () => {
    const one = await begin({ blocks: { ram: 2 ** 20 } })
    one.source.startPostcopy()
    await finish(one)
    await one.peer.hangsUp()
    const names = one.peer.events.map(([name]) => name)
    assert.deepEqual(names.slice(-4), ['sectionEnd', 'ramEndOfSection', 'footer', 'endOfStream'])
  })

  it('names the block of the first page after the package', async () => {
    const one = await begin({ blocks: { ram: 2 ** 20 } })
    one.source.startPostcopy()
    await finish(one)
    const bytes = Buffer.concat(one.peer.bytes)
    const [, offset] = one.peer.all('packaged')[0]?.slice(1) ?? []
    const part = Number(offset) + (one.peer.package?.length ?? 0) + 9
    assert.equal(bytes[part], stream.ElementType.sectionPart)
    const head = Number(bytes.readBigUInt64BE(part + 5))
    assert.equal(head & stream.RamFlag.continue, 0)
    assert.equal(bytes.toString('latin1', part + 14, part + 17), 'ram')
  })
})

describe('the discards of a source', () => {
  /** One batch of precopy, then every second page of it written, then postcopy. */
  async function redirty(): Promise<Case> {
    const one = await begin(
      { blocks: { ram: 2 ** 20, vram: 2 ** 16 } },
      { parameters: { 'max-bandwidth': oneBatch } },
    )
    await one.peer.until(() => pagesOf(one.peer).length === BATCH_PAGES)
    for (let page = 0; page < 64; page += 2) {
      one.machine.region('ram').write(page * 4096, Buffer.from('written again'))
    }
    one.source.startPostcopy()
    await finish(one)
    return one
  }

  it('name exactly the owed pages: written again or never sent', async () => {
    const { peer } = await redirty()
    const discarded = discardedPages(peer)
    const sent = pagesOf(peer, packageIndex(peer))
    assert.equal(sent.length, 32 + 128 + 16)
    assert.deepEqual([...discarded].sort(), [...sent].sort())
    assert.equal(new Set(sent).size, sent.length, 'each page is sent once')
  })

  it('are coalesced, ascending, at most 12 ranges in a command, block by block', async () => {
    const { peer } = await redirty()
    const commands = peer.all('ramDiscard')
    assert.deepEqual(
      commands.map(([, block, ranges]) => [block, (ranges as number[]).length / 2]),
      [
        ['ram', 12],
        ['ram', 12],
        ['ram', 9],
        ['vram', 1],
      ],
    )
    const ranges = commands.slice(0, 3).flatMap(([, , numbers]) => numbers as number[])
    for (let at = 2; at < ranges.length; at += 2) {
      const endBefore = (ranges[at - 2] ?? 0) + (ranges[at - 1] ?? 0)
      assert((ranges[at] ?? 0) > endBefore, 'a gap between two ranges')
    }
  })

  it('are between the last page of precopy and ping 2', async () => {
    const { peer } = await redirty()
    const first = peer.events.findIndex(([name]) => name === 'ramDiscard')
    const last = peer.events.findLastIndex(([name]) => name === 'ramDiscard')
    const ping = peer.events.findIndex(([name, value]) => name === 'ping' && value === 2)
    const lastPage = peer.events
      .slice(0, packageIndex(peer))
      .findLastIndex(([name]) => name === 'ramPage' || name === 'ramZero')
    assert(lastPage < first && first <= last && last < ping)
    assert.equal(ping + 1, packageIndex(peer))
  })
})

describeKinds('whole host pages', ['hugetlb'], (_kind, hostPage) => {
  it('are discarded and sent whole and once, also one that was half sent', async () => {
    const one = await begin(
      { kind: 'hugetlb', blocks: { ram: 3 * hostPage } },
      { parameters: { 'max-bandwidth': oneBatch } },
    )
    await one.peer.until(() => pagesOf(one.peer).length === BATCH_PAGES)
    one.source.startPostcopy()
    await one.peer.heard('packaged')
    one.peer.request('ram', 2 * hostPage, hostPage)
    await finish(one)
    const { peer } = one
    assert.deepEqual(peer.all('ramDiscard'), [['ramDiscard', 'ram', [0, 3 * hostPage]]])
    const sent = pagesOf(peer, packageIndex(peer)).map((page) => Number(page.slice(4)))
    const hostPages = hostPage / 4096
    assert.equal(sent.length, 3 * hostPages)
    for (let at = 0; at < sent.length; at += hostPages) {
      const first = sent[at] ?? -1
      assert.equal(first % hostPages, 0)
      assert.deepEqual(
        sent.slice(at, at + hostPages),
        Array.from({ length: hostPages }, (_, page) => first + page),
      )
    }
    const [, summary] = peer.all('advise')[0] ?? []
    assert.equal(summary, hostPage)
    const [, blocks] = peer.all('ramBlocks')[0] ?? []
    assert.deepEqual(blocks, [
      { name: 'ram', usedLengthBytes: 3 * hostPage, pageSizeBytes: hostPage },
    ])
  })
})

describe('a requested page', () => {
  it('is sent before any other, and the sweep continues after it', async () => {
    const one = await begin(
      { blocks: { ram: 2 ** 21, vram: 2 ** 16 } },
      { parameters: { 'max-postcopy-bandwidth': oneBatch } },
    )
    const { peer, source } = one
    source.startPostcopy()
    const from = () => packageIndex(peer)
    await peer.heard('packaged')
    await peer.until(() => pagesOf(peer, from()).length > 0)
    // The push has used up its limit.
    await reached(source, 'postcopy-active')
    const background = pagesOf(peer, from()).length
    peer.request('ram', 300 * 4096)
    peer.request('vram', 3 * 4096)
    peer.request(undefined, 5 * 4096)
    await peer.until(() => pagesOf(peer, from()).includes('vram:5'))
    const asked = pagesOf(peer, from()).slice(background)
    assert.deepEqual(
      asked.filter((page) => !asked.slice(0, asked.indexOf('ram:300')).includes(page)),
      ['ram:300', 'vram:3', 'vram:5'],
    )
    const before = pagesOf(peer, from()).length
    source.setParameters({ 'max-postcopy-bandwidth': 0 })
    await finish(one)
    assert.equal(pagesOf(peer, from())[before], 'vram:6')
    assert.equal(source.counters.requestedPages, 3)
  })

  for (const [ahead, expected] of [
    [8, [100, 101, 102, 103, 104, 105, 106, 107, 108, 109, 110, 400]],
    [3, [100, 101, 102, 103, 104, 105, 400]],
    [0, [100, 101, 102, 400]],
  ] as const) {
    it(`that continues a pattern is followed by ${ahead} more, if that many may be sent ahead`, async () => {
      const one = await begin(
        { blocks: { ram: 2 ** 21 } },
        { parameters: { 'x-push-after-quiet-ms': PUSH_NEVER, 'x-read-ahead-pages': ahead } },
      )
      const { peer, source } = one
      source.startPostcopy()
      await reached(source, 'postcopy-active')
      const from = pagesOf(peer).length
      for (const page of [100, 101, 102]) peer.request('ram', page * 4096)
      await peer.until(() => pagesOf(peer).includes(`ram:${102 + ahead}`))
      // The page requested next is sent next, because nothing else is queued.
      peer.request('ram', 400 * 4096)
      await peer.until(() => pagesOf(peer).includes('ram:400'))
      assert.deepEqual(
        pagesOf(peer).slice(from),
        expected.map((page) => `ram:${page}`),
      )
      source.setParameters({ 'x-push-after-quiet-ms': 0 })
      await finish(one)
    })
  }

  it('is followed by a ping only after every 32 KiB', async () => {
    const one = await begin(
      { blocks: { ram: 2 ** 21 } },
      { parameters: { 'x-push-after-quiet-ms': PUSH_NEVER, 'x-read-ahead-pages': 0 } },
    )
    const { peer, source } = one
    source.startPostcopy()
    await reached(source, 'postcopy-active')
    const from = peer.events.length
    // None of these is a zero page.
    for (let page = 1; page < 400; page += 20) {
      peer.request('ram', page * 4096)
      await peer.until(() => pagesOf(peer, from).includes(`ram:${page}`))
    }
    // The ping after the package may be read only now.
    const pings = peer.events
      .slice(from)
      .filter(([name, value]) => name === 'ping' && Number(value) > stream.PingValue.packageLoaded)
    assert.equal(pings.length, 2)
    source.setParameters({ 'x-push-after-quiet-ms': 0 })
    await finish(one)
  })

  it('and all other pages are sent even if no ping is answered after the switch', async () => {
    const one = await begin({ blocks: { ram: 2 ** 21 } })
    const { peer, source } = one
    const answer = peer.onPing
    peer.onPing = (value) => {
      if (value <= stream.PingValue.packageLoaded) answer(value)
    }
    source.startPostcopy()
    await peer.heard('packaged')
    peer.request('ram', 300 * 4096)
    await finish(one)
    assert.equal(new Set(pagesOf(peer)).size, 512)
  })

  it('that was already sent is not sent again', async () => {
    const one = await begin(
      { blocks: { ram: 2 ** 21 } },
      { parameters: { 'max-postcopy-bandwidth': oneBatch } },
    )
    const { peer, source } = one
    source.startPostcopy()
    await peer.heard('packaged')
    await peer.until(() => pagesOf(peer, packageIndex(peer)).length > 0)
    peer.request('ram', 0)
    peer.request('ram', 0)
    source.setParameters({ 'max-postcopy-bandwidth': 0 })
    await finish(one)
    const sent = pagesOf(peer, packageIndex(peer))
    assert.equal(new Set(sent).size, sent.length)
  })
})

describe('a limit of postcopy bandwidth', () => {
  it('is met in steps of a tenth of a second', async () => {
    // A tenth of it is ten pages. Before the guest is reported to run, time for far
    // more of them passes.
    const parameters = { 'max-postcopy-bandwidth': 100 * 4104, 'x-postcopy-after-ms': 1 }
    const one = await begin({ blocks: { ram: 2 ** 22 } }, { parameters })
    await one.peer.heard('packaged')
    const pushed = (): string[] => pagesOf(one.peer, packageIndex(one.peer))
    await one.peer.until(() => pushed().length > 0)
    assert(pushed().length <= 10, `${pushed().length} pages were sent at once`)
    one.source.setParameters({ 'max-postcopy-bandwidth': 0 })
    await finish(one)
  })
})

describe('precopy', () => {
  it('stops at its bandwidth limit, and continues when it is raised', async () => {
    const one = await begin({ blocks: { ram: 2 ** 22 } }, { parameters: { 'max-bandwidth': 1 } })
    await one.peer.until(() => pagesOf(one.peer).length >= BATCH_PAGES)
    assert.equal(pagesOf(one.peer).length, BATCH_PAGES)
    assert.equal(one.source.state, 'active')
    one.source.setParameters({ 'max-bandwidth': 0 })
    await finish(one)
    assert.equal(new Set(pagesOf(one.peer)).size, 1024)
  })

  it('sends only the pages written meanwhile in another round', async () => {
    const one = await begin(
      { blocks: { ram: 2 ** 20 } },
      { parameters: { 'max-bandwidth': 1, 'downtime-limit': 0 } },
    )
    await one.peer.until(() => pagesOf(one.peer).length === BATCH_PAGES)
    one.machine.region('ram').write(7 * 4096, Buffer.from('written again'))
    one.source.setParameters({ 'max-bandwidth': 0 })
    await finish(one)
    const pages = pagesOf(one.peer)
    assert.equal(pages.length, 257)
    assert.equal(pages.at(-1), 'ram:7')
    assert.equal(one.source.counters.normalPages + one.source.counters.zeroPages, 257)
  })

  it('announces zero pages without their bytes', async () => {
    const one = await begin({ blocks: { ram: 2 ** 20 } })
    await finish(one)
    assert.equal(one.peer.all('ramZero').length, Math.ceil(256 / 5))
    assert.equal(one.source.counters.zeroPages, Math.ceil(256 / 5))
  })
})

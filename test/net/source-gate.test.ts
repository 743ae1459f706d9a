import assert from 'node:assert/strict'
import type { Channel } from '../../src/net/channel.js'
import { SourceGate } from '../../src/net/source-gate.js'
import { SourceProbe } from '../../src/net/source-probe.js'
import * as stream from '../../src/stream/index.js'
import { RecordedTimers } from '../support/recorded-timers.js'
import { RecordingChannel } from '../support/recording-channel.js'

const blocks = [{ name: 'ram', usedLengthBytes: 8 * 4096 }]

/** What a source sends up to its block list, at which it is recognized. */
const sourceBytes = stream.encode((out) => {
  stream.encodeFileHeader(out)
  stream.encodeConfiguration(out, 'pc')
  const version = stream.RAM_SECTION_VERSION
  stream.encodeSectionStart(out, { id: 2, idstr: stream.RAM_SECTION, instanceId: 0, version })
  stream.encodeRamBlockList(out, blocks)
})
const recoveryBytes = stream.encode((out) => stream.encodeRecvBitmapRequest(out, 'ram'))
const multifdBytes = stream.encode((out) => out.u32(stream.MULTIFD_MAGIC))
const resume = { ramSectionId: 2, blocks }

interface Setting {
  readonly most?: number
  readonly timeoutMs?: number
  readonly recovers?: boolean
}

/** A gate with connections by name. */
function gate({ most = 16, timeoutMs = 500, recovers = false }: Setting = {}) {
  const timers = new RecordedTimers()
  const log: string[] = []
  const names = new Map<Channel, string>()
  const nameOf = (channel: Channel): string => names.get(channel) ?? '?'
  const one = new SourceGate(
    recovers ? resume : undefined,
    {
      'x-handshake-timeout': timeoutMs,
      'x-max-connections': most,
      'tls-creds': '',
      'tls-hostname': '',
    },
    {
      accept: (channel) => void log.push(`accept ${nameOf(channel)}`),
      acceptEarly: (channel) => void log.push(`early ${nameOf(channel)}`),
      refused: (error) => void log.push(`refused ${error.code}`),
    },
  )
  return {
    gate: one,
    timers,
    log,
    add: (name: string): RecordingChannel => {
      const channel = new RecordingChannel()
      names.set(channel.asChannel, name)
      one.add(channel.asChannel)
      return channel
    },
  }
}

/** Lets the gate accept, which it does after the read. */
const accepted = (): Promise<void> => Promise.resolve()

describe('SourceGate', () => {
  it('accepts a source when its block list begins, and takes none of its bytes', async () => {
    const { add, log, timers } = gate()
    const source = add('source')
    source.receive(sourceBytes.subarray(0, 20))
    assert.deepEqual(log, [])
    source.receive(sourceBytes.subarray(20))
    assert.deepEqual(log, [], 'not inside of the read')
    source.receive(Uint8Array.of(0))
    await accepted()
    assert.deepEqual(log, ['accept source'])
    assert.deepEqual(timers.delaysMs, [])
    const seen: number[] = []
    source.start({
      consume: (_bytes, start, end) => seen.push(end - start) * 0 + end - start,
      end: () => undefined,
      close: () => undefined,
    })
    assert.deepEqual(seen, [sourceBytes.length + 1])
  })

  it('passes on later connections, then silent earlier ones, and closes all others', async () => {
    const { add, log } = gate()
    const early = add('early')
    const multifd = add('multifd')
    multifd.receive(multifdBytes)
    const source = add('source')
    const late = add('late')
    source.receive(sourceBytes)
    await accepted()
    assert.deepEqual(log, ['accept source', 'accept late', 'early early'])
    assert.deepEqual(
      [early, multifd, source, late].map(({ broken }) => broken),
      [false, true, false, false],
    )
  })

  it('rejects a stranger, which does not keep the source out', async () => {
    const { add, log } = gate()
    const stranger = add('stranger')
    stranger.receive(Buffer.from('GET / HTTP/1.1'))
    assert.deepEqual([log, stranger.broken], [['refused ERR_CONNECTION_STRANGER'], true])
    assert.match(stranger.error?.message ?? '', /47455420 does not begin a migration/)
    add('source').receive(sourceBytes)
    await accepted()
    assert.deepEqual(log.slice(1), ['accept source'])
  })

  it('rejects a connection that stays silent, once', () => {
    const { add, log, timers } = gate({ timeoutMs: 700 })
    const silent = add('silent')
    assert.deepEqual(timers.delaysMs, [700])
    timers.fire()
    silent.settle()
    assert.deepEqual([log, silent.broken], [['refused ETIMEDOUT'], true])
  })

  it('has no deadline if that is 0', () => {
    const { add, timers } = gate({ timeoutMs: 0 })
    add('silent')
    assert.deepEqual(timers.delaysMs, [])
  })

  it('rejects the oldest of too many connections', () => {
    const { add, log } = gate({ most: 2 })
    const [first, second, third] = ['first', 'second', 'third'].map(add)
    assert.deepEqual(
      [first, second, third].map((one) => one?.broken),
      [true, false, false],
    )
    assert.deepEqual(log, ['refused ERR_CONNECTION_CROWDED'])
  })

  it('reports a connection that closes before it is known, once', () => {
    const { add, log, timers } = gate()
    add('silent').end()
    const started = add('started')
    started.receive(sourceBytes.subarray(0, 10))
    started.end()
    const broken = add('broken')
    broken.breakOff('ECONNRESET')
    broken.settle()
    assert.deepEqual(log, [
      'refused ERR_CONNECTION_CLOSED',
      'refused ERR_CONNECTION_CLOSED',
      'refused ECONNRESET',
    ])
    assert.deepEqual(timers.delaysMs, [])
  })

  it('rejects a multifd channel that sends much before its source', () => {
    const { add, log } = gate()
    const channel = add('multifd')
    channel.receive(multifdBytes)
    channel.receive(new Uint8Array(64 * 1024 - multifdBytes.length))
    assert.deepEqual(log, [])
    channel.receive(new Uint8Array(1))
    assert.deepEqual(log, ['refused ERR_CONNECTION_STRANGER'])
    assert.match(channel.error?.message ?? '', /turn off the capability multifd/)
  })

  it('closes all connections when it is dropped, and reports none', () => {
    const { gate: one, add, log, timers } = gate()
    const channels = [add('first'), add('second')]
    one.drop()
    for (const channel of channels) channel.settle()
    assert.deepEqual(
      channels.map(({ broken }) => broken),
      [true, true],
    )
    assert.deepEqual([log, timers.delaysMs], [[], []])
  })

  it('of a recovery accepts its source by the first request for a bitmap', async () => {
    const { add, log } = gate({ recovers: true })
    add('new migration').receive(sourceBytes)
    add('source').receive(recoveryBytes)
    await accepted()
    assert.deepEqual(log, ['refused ERR_CONNECTION_STRANGER', 'accept source'])
  })
})

describe('SourceProbe', () => {
  const roles = (bytes: Uint8Array, recovers = false): Set<string> => {
    const probe = new SourceProbe(recovers ? resume : undefined)
    const seen = new Set<string>()
    for (let end = 1; end <= bytes.length; end += 1) seen.add(probe.look(bytes.subarray(0, end)).is)
    return seen
  }

  it('recognizes a source byte by byte, at its last one', () => {
    assert.deepEqual([...roles(sourceBytes)], ['unknown', 'source'])
    assert.deepEqual([...roles(sourceBytes.subarray(0, -1))], ['unknown'])
    assert.deepEqual([...roles(recoveryBytes, true)], ['unknown', 'source'])
  })

  it('tells a recovery from a new migration by the first bytes', () => {
    assert.deepEqual(new SourceProbe(undefined).look(recoveryBytes).is, 'stranger')
    assert.deepEqual(new SourceProbe(resume).look(sourceBytes).is, 'stranger')
  })

  it('takes a stream that cannot be received as a source after its configuration only', () => {
    const garbage = Uint8Array.of(0xff, 0xff, 0xff, 0xff, 0xff)
    const header = stream.encode(stream.encodeFileHeader)
    const configured = stream.encode((out) => {
      stream.encodeFileHeader(out)
      stream.encodeConfiguration(out, 'pc')
    })
    const look = (bytes: Uint8Array): string =>
      new SourceProbe(undefined).look(Buffer.concat([bytes, garbage])).is
    assert.deepEqual([look(header), look(configured)], ['stranger', 'source'])
  })
})

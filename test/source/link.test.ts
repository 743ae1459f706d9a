import assert from 'node:assert/strict'
import { PeerError } from '../../src/errors.js'
import { createCounters } from '../../src/migration/counters.js'
import { SourceLink } from '../../src/source/link.js'
import { Signal } from '../../src/source/signal.js'
import { RecordingChannel } from '../support/recording-channel.js'

const BATCH_BYTES = 16

class CountingSignal extends Signal {
  notifications = 0

  override notify(): void {
    this.notifications += 1
    super.notify()
  }
}

interface Setting {
  consume?: (bytes: Uint8Array, start: number, end: number) => number
  hasReturnPath?: boolean
}

function linkTo({
  consume = (_bytes, start, end) => end - start,
  hasReturnPath = true,
}: Setting = {}) {
  const channel = new RecordingChannel()
  const counters = createCounters()
  const signal = new CountingSignal()
  const link = new SourceLink(
    channel.asChannel,
    BATCH_BYTES,
    counters,
    signal,
    consume,
    hasReturnPath,
  )
  return { link, channel, counters, signal }
}

const refusal = new PeerError('ERR_PEER_PROTOCOL', 'no such message')

/** Fills a batch with this many bytes. */
const fill = (bytes: number) => (out: Uint8Array) => {
  out.fill(bytes, 0, bytes)
  return bytes
}

describe('SourceLink', () => {
  it('counts every byte that it sends', async () => {
    const { link, channel, counters } = linkTo()
    link.write(new Uint8Array(3))
    await link.writeAll(new Uint8Array(4))
    assert.equal(await link.sendBatch(fill(5)), 5)
    assert.equal(link.trySendBatch(fill(6)), 6)
    assert.deepEqual(
      channel.written.map(({ length }) => length),
      [3, 4, 5, 6],
    )
    assert.deepEqual([link.sentBytes, counters.transferredBytes], [18, 18])
  })

  it('sends no empty batch, and loses no buffer by it', async () => {
    const { link, channel } = linkTo()
    for (let time = 0; time < 5; time += 1) assert.equal(await link.sendBatch(fill(0)), 0)
    assert.equal(link.trySendBatch(fill(0)), 0)
    assert.equal(channel.written.length, 0)
    assert.equal(await link.sendBatch(fill(2)), 2)
  })

  it('does not reuse a buffer that the kernel has not taken', async () => {
    const { link, channel } = linkTo()
    channel.keepsWrites = true
    const buffers = new Set<Uint8Array>()
    const note = (out: Uint8Array): number => {
      buffers.add(out)
      return fill(1)(out)
    }
    for (let time = 0; time < 3; time += 1) await link.sendBatch(note)
    assert.equal(buffers.size, 3)
    assert.equal(link.trySendBatch(note), 0)
    const waiting = link.sendBatch(note)
    channel.keepsWrites = false
    channel.finishWrites()
    assert.equal(await waiting, 1)
    assert.equal(buffers.size, 3)
  })

  it('sends the part of a batch that was not sent directly', async () => {
    const { link, channel } = linkTo()
    assert.equal(
      await link.sendSweep((out, direct) => {
        assert.equal(direct, undefined, 'without a socket')
        return fill(4)(out)
      }),
      4,
    )
    Object.defineProperty(channel, 'directFd', { value: 9 })
    const sent = await link.sendSweep((out, direct) => {
      assert(direct !== undefined)
      assert.equal(direct.fd, 9)
      direct.sentBytes = 100
      direct.unsentFrom = 2
      return fill(6)(out)
    })
    assert.equal(sent, 104)
    assert.equal(channel.written[1]?.length, 4)
    assert.equal(link.sentBytes, 108)
  })

  it('waits until the kernel has taken its writes', async () => {
    const { link, channel } = linkTo()
    assert.equal(await link.taken(), true)
    channel.keepsWrites = true
    link.write(new Uint8Array(3))
    const taken = link.taken()
    channel.finishWrites()
    assert.equal(await taken, true)
  })

  it('does not count a failed write as taken', async () => {
    const { link, channel } = linkTo()
    channel.keepsWrites = true
    link.write(new Uint8Array(3))
    const taken = link.taken()
    channel.finishWrites(new Error('reset'))
    channel.breakOff('ECONNRESET')
    channel.settle()
    assert.equal(await taken, false)
  })
})

describe('a broken SourceLink', () => {
  it('keeps its first reason, and wakes all that wait', async () => {
    const { link, channel, signal } = linkTo()
    channel.keepsWrites = true
    const waiting = link.writeAll(new Uint8Array(1))
    const batches = [1, 2, 3].map(() => link.sendBatch(fill(1)))
    await Promise.all(batches)
    const fourth = link.sendBatch(fill(1))
    link.break(refusal)
    link.break(new PeerError('ERR_PEER_BLOCK', 'later'))
    await waiting
    await assert.rejects(fourth, refusal)
    assert.equal(link.broken, refusal)
    assert(signal.notifications >= 1)
    assert.equal(channel.broken, false, 'the last message of the peer may still be read')
  })

  it('sends no more batches', async () => {
    const { link, channel } = linkTo()
    link.break(refusal)
    await assert.rejects(link.sendBatch(fill(1)), refusal)
    await assert.rejects(link.sendSweep(fill(1)), refusal)
    assert.equal(link.trySendBatch(fill(1)), 0)
    assert.equal(channel.written.length, 0)
  })

  it('is broken by what its consumer throws, which takes all bytes', () => {
    const offered: number[] = []
    const { link, channel } = linkTo({
      consume: (_bytes, start, end) => {
        offered.push(end - start)
        throw refusal
      },
    })
    channel.receive(new Uint8Array(9))
    channel.receive(new Uint8Array(1))
    assert.equal(link.broken, refusal)
    assert.deepEqual(offered, [9, 1])
  })

  it('knows of a failure before the connection reports its close', () => {
    const { link, channel } = linkTo()
    channel.breakOff('ETIMEDOUT')
    assert.equal(link.trySendBatch(fill(1)), 0)
    assert.equal(link.broken?.code, 'ETIMEDOUT')
    assert.equal(channel.written.length, 0)
  })

  for (const code of ['ECONNRESET', 'EPIPE']) {
    it(`takes ${code} as a close by the peer`, () => {
      const { link, channel } = linkTo()
      channel.breakOff(code)
      channel.settle()
      assert.equal(link.broken?.code, 'ERR_CONNECTION_CLOSED')
      assert.equal((link.broken.cause as { code: string }).code, code)
    })
  }

  const closes: readonly [string, Setting, boolean, number, RegExp][] = [
    ['before it has answered', {}, false, 2 ** 21, /before it answered/],
    ['after its first answer', {}, true, 10, /after 10 B/],
    [
      'after the set-up without a return path',
      { hasReturnPath: false },
      false,
      10,
      /before it answered/,
    ],
    [
      'after much RAM without a return path',
      { hasReturnPath: false },
      false,
      2 ** 20 + 1,
      /without a reason/,
    ],
  ]
  for (const [when, setting, hasAnswered, sentBytes, text] of closes) {
    it(`explains a close by the peer ${when}`, () => {
      const { link, channel } = linkTo(setting)
      if (hasAnswered) channel.receive(new Uint8Array(1))
      link.write(new Uint8Array(sentBytes))
      channel.end()
      assert.equal(link.broken?.code, 'ERR_CONNECTION_CLOSED')
      assert.match(link.broken.message, text)
    })
  }
})

import assert from 'node:assert/strict'
import {
  IncomingSession,
  type IncomingSessionEvents,
} from '../../src/destination/incoming-session.js'
import type { IncomingPhase } from '../../src/destination/phases.js'
import { PeerError } from '../../src/errors.js'
import { createCounters } from '../../src/migration/counters.js'
import { RecordedTimers } from '../support/recorded-timers.js'
import { RecordingChannel } from '../support/recording-channel.js'
import { returnPathMessages } from './support.js'

const LINGER_MS = 1

const said = (error: unknown): string => (error instanceof Error ? `: ${error.message}` : '')

/** A session and everything that it reports, in order. */
function sessionIn(initial: IncomingPhase, changes: Partial<IncomingSessionEvents> = {}) {
  const log: string[] = []
  const counters = createCounters()
  const channel = new RecordingChannel()
  const add = (text: string) => () => void log.push(text)
  const session = new IncomingSession(
    {
      initial,
      counters,
      parameters: { 'x-max-unread-bytes': 1000, 'x-silence-timeout': 77 },
      lingerMs: LINGER_MS,
    },
    {
      stateChanged: (state, error) => void log.push(`${state}${said(error)}`),
      decode: (_bytes, start, end) => {
        log.push(`decode ${start} to ${end}`)
        return end - start
      },
      afterRead: (taken) => void log.push(`took ${taken}`),
      closed: (_channel, cause) => void log.push(`closed${said(cause)}`),
      giveBack: () => true,
      failureActions: (error) => ({
        refuse: add(`refuse${said(error)}`),
        keepParked: add(`keepParked${said(error)}`),
        close: add('close'),
      }),
      ...changes,
    },
  )
  return { session, channel, log, counters }
}

const refusal = new PeerError('ERR_PEER_MACHINE', 'another machine')

describe('IncomingSession', () => {
  it('announces its source once, before the first byte is decoded', () => {
    const { session, channel, log, counters } = sessionIn('setup')
    channel.receive(new Uint8Array(3))
    session.accept(channel.asChannel)
    assert.deepEqual(log, ['active', 'decode 0 to 3', 'took 3'])
    assert.deepEqual(channel.silenceTimeouts, [77])
    assert.equal(session.channel, channel)
    assert(counters.startedAt > 0)
  })

  it('counts what was decoded, and gets the rest again', () => {
    const { session, channel, log, counters } = sessionIn('setup', {
      decode: (_bytes, start, end) => {
        log.push(`decode ${end - start}`)
        return end - start - 1
      },
    })
    session.accept(channel.asChannel)
    channel.receive(new Uint8Array(5))
    channel.receive(new Uint8Array(2))
    assert.deepEqual(log, ['active', 'decode 5', 'took 4', 'decode 3', 'took 2'])
    assert.equal(counters.transferredBytes, 6)
  })

  it('announces the failure of a decoder once, and drops all later bytes', () => {
    const { session, channel, log, counters } = sessionIn('precopy', {
      decode: () => {
        throw refusal
      },
    })
    assert.equal(session.take(new Uint8Array(9), 2, 9), 7)
    assert.deepEqual(log, ['refuse: another machine', 'failed: another machine'])
    assert.equal(session.isOver, true)
    assert.equal(session.take(new Uint8Array(9), 0, 9), 9)
    session.fail(new Error('later'))
    assert.equal(log.length, 2)
    assert.equal(counters.transferredBytes, 0)
    channel.settle()
  })

  it('fails if the work after a read fails', () => {
    const { session, log } = sessionIn('precopy', {
      afterRead: () => {
        throw refusal
      },
    })
    session.take(new Uint8Array(4), 0, 4)
    assert.deepEqual(log.slice(1), ['refuse: another machine', 'failed: another machine'])
  })

  it('pauses with parked threads where the guest was taken, and closes after the announcement', () => {
    const { session, log } = sessionIn('running', { giveBack: () => false })
    session.fail(refusal)
    assert.deepEqual(log, [
      'keepParked: another machine',
      'postcopy-paused: another machine',
      'close',
    ])
    assert.equal(session.isOver, true)
  })

  it('ignores a failure of a source that has sent a whole precopy', () => {
    const { session, log } = sessionIn('loaded', { giveBack: () => false })
    session.fail(refusal)
    assert.deepEqual(log, [])
    assert.equal(session.isOver, false)
  })

  it('announces what explains a failure instead of the failure', () => {
    const { session, log } = sessionIn('precopy', {
      explain: (error) => new Error(`explained ${String(error === refusal)}`),
    })
    session.fail(refusal)
    assert.deepEqual(log, ['refuse: another machine', 'failed: explained true'])
  })

  it('asks who has the guest only for a failure that has an effect', () => {
    let asked = 0
    const giveBack = (): boolean => {
      asked += 1
      return true
    }
    const { session } = sessionIn('precopy', { giveBack })
    assert.equal(asked, 0)
    session.fail(refusal)
    session.fail(refusal)
    assert.equal(asked, 1)
  })

  it('reports the close of a source, with its reason', () => {
    const { session, channel, log } = sessionIn('setup')
    session.accept(channel.asChannel)
    channel.end()
    channel.breakOff('ECONNRESET')
    channel.settle()
    assert.deepEqual(log, ['active', 'closed', 'closed: broken by the test'])
  })

  it('does not report a close once it is over', () => {
    const { session, channel, log } = sessionIn('setup')
    session.accept(channel.asChannel)
    session.fail(refusal)
    const { length } = log
    channel.end()
    channel.breakOff('ECONNRESET')
    channel.settle()
    assert.equal(log.length, length)
  })

  it('begins a recovery with the counters of its migration', () => {
    const { session, counters } = sessionIn('recover-setup')
    counters.startedAt = 5
    counters.endedAt = 6
    session.begin()
    assert.deepEqual([counters.startedAt, counters.endedAt], [5, 0])
    assert.equal(session.phases.phase, 'recover')
  })
})

describe('SHUT', () => {
  it('is the last message, after which the source may close for a while', () => {
    const timers = new RecordedTimers()
    const { session, channel, log } = sessionIn('setup')
    session.accept(channel.asChannel)
    session.returnPath.isOpen = true
    session.shut(0)
    assert.deepEqual(returnPathMessages(channel.bytes, []), ['SHUT 0'])
    assert.deepEqual([channel.hasEnded, channel.broken], [true, false])
    assert.deepEqual(timers.delaysMs, [LINGER_MS])
    timers.fire()
    assert.equal(channel.broken, true)
    assert.deepEqual(log, ['active'])
  })

  it('follows the messages that were queued', () => {
    const { session, channel } = sessionIn('setup')
    session.accept(channel.asChannel)
    session.returnPath.isOpen = true
    session.returnPath.queueRequest('ram', 4096, 4096)
    session.shut(1)
    const block = { block: { name: 'ram', lengthBytes: 8192, hostPageSize: 4096 } }
    assert.equal(channel.written.length, 1)
    assert.deepEqual(returnPathMessages(channel.bytes, [block]), ['ram:1', 'SHUT 1'])
  })

  it('closes at once without a return path if the source must not count all as received', () => {
    const { session, channel } = sessionIn('setup')
    session.accept(channel.asChannel)
    session.shut(1)
    assert.deepEqual([channel.bytes.length, channel.broken], [0, true])
  })

  it('only ends the writing without a return path if all was received', () => {
    const { session, channel } = sessionIn('setup')
    session.accept(channel.asChannel)
    session.shut(0)
    assert.deepEqual([channel.bytes.length, channel.hasEnded, channel.broken], [0, true, false])
  })

  it('needs no source', () => {
    const { session } = sessionIn('setup')
    session.shut(1)
    assert.equal(session.channel, undefined)
  })

  for (const phase of ['loaded-shut', 'running-shut'] as const) {
    it(`is followed by no byte of the source that counts, in ${phase}`, () => {
      const { session, log, counters } = sessionIn(phase)
      assert.equal(session.hasShut, true)
      assert.equal(session.take(new Uint8Array(4), 0, 4), 4)
      assert.deepEqual(log, [])
      assert.equal(counters.transferredBytes, 0)
    })
  }
})

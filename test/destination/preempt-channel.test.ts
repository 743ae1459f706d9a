import assert from 'node:assert/strict'
import { PreemptChannel } from '../../src/destination/preempt-channel.js'
import { RecordingChannel } from '../support/recording-channel.js'
import { PAGE as PAGE_FLAG, record, zeroRecord } from '../support/records.js'
import { PAGE } from './support.js'

const blocks = [{ name: 'ram', usedLengthBytes: 8 * PAGE }]
const name = Uint8Array.of(3, ...Buffer.from('ram'))

/** The first record of a channel, which names the block. */
function namedPage(page: number): Uint8Array {
  return record(page * PAGE + PAGE_FLAG, name, new Uint8Array(PAGE).fill(1))
}

const endMark = record(0x10)
const garbage = record(0x400)

function preempt() {
  const channel = new PreemptChannel()
  const log: string[] = []
  return {
    channel,
    log,
    start: (): void => {
      channel.start(
        {
          ramPage: (_name, offset) => void log.push(`page ${offset / PAGE}`),
          ramZero: (_name, offset) => void log.push(`zero ${offset / PAGE}`),
        },
        blocks,
        {
          placed: () => void log.push('placed'),
          ended: (marked) => void log.push(marked ? 'ended' : 'closed'),
          failed: (error) => void log.push(`failed: ${(error as Error).message}`),
        },
      )
    },
  }
}

describe('PreemptChannel', () => {
  it('is over while it has no connection', () => {
    const { channel } = preempt()
    assert.deepEqual([channel.isOver, channel.hasExpected], [true, false])
    channel.add(new RecordingChannel().asChannel)
    assert.deepEqual([channel.isOver, channel.hasExpected], [false, true])
  })

  it('places no page before it is started, and then each of them', () => {
    const { channel, log, start } = preempt()
    const connection = new RecordingChannel()
    channel.add(connection.asChannel)
    connection.receive(namedPage(3))
    assert.deepEqual(log, [])
    start()
    assert.deepEqual(log, ['page 3', 'placed'])
    start()
    connection.receive(zeroRecord(5))
    assert.deepEqual(log.slice(2), ['zero 5', 'placed'])
  })

  it('reads connections that come after its start, and starts once', () => {
    const { channel, log, start } = preempt()
    start()
    start()
    const connection = new RecordingChannel()
    channel.add(connection.asChannel)
    connection.receive(namedPage(3))
    assert.deepEqual(log, ['page 3', 'placed'])
  })

  it('ends by its mark, once, and ignores everything after it', () => {
    const { channel, log, start } = preempt()
    const connection = new RecordingChannel()
    channel.add(connection.asChannel)
    start()
    connection.receive(endMark)
    assert.equal(channel.isOver, true)
    connection.receive(garbage)
    connection.end()
    connection.breakOff('ECONNRESET')
    connection.settle()
    assert.deepEqual(log, ['placed', 'ended'])
  })

  it('reports a close without a mark once, also in the middle of a record', () => {
    const { channel, log, start } = preempt()
    const connection = new RecordingChannel()
    channel.add(connection.asChannel)
    start()
    connection.receive(namedPage(3).subarray(0, 100))
    connection.end()
    connection.breakOff(undefined)
    connection.settle()
    assert.deepEqual(log, ['placed', 'closed'])
    assert.equal(channel.isOver, true)
  })

  it('fails with the error of its connection', () => {
    const { channel, log, start } = preempt()
    const connection = new RecordingChannel()
    channel.add(connection.asChannel)
    start()
    connection.breakOff('ETIMEDOUT')
    connection.settle()
    assert.deepEqual(log, ['failed: broken by the test'])
  })

  it('fails once for bytes that are no records, from the expected connection', () => {
    const { channel, log, start } = preempt()
    const connection = new RecordingChannel()
    channel.add(connection.asChannel)
    start()
    connection.receive(garbage)
    connection.receive(garbage)
    connection.end()
    assert.equal(log.length, 1)
    assert.match(log[0] ?? '', /^failed: .*0x400/)
  })

  it('closes its connections', () => {
    const { channel, log, start } = preempt()
    const [expected, early] = [new RecordingChannel(), new RecordingChannel()]
    channel.add(expected.asChannel)
    channel.addEarly(early.asChannel)
    start()
    channel.close()
    expected.settle()
    early.settle()
    assert.deepEqual([expected.broken, early.broken, channel.isOver], [true, true, true])
    assert.deepEqual(log, [], 'a close of its own is no news')
    const late = new RecordingChannel()
    channel.add(late.asChannel)
    assert.equal(late.broken, true)
  })
})

describe('PreemptChannel with several candidates', () => {
  /** Two silent connections before the source's first one, and the expected one after it. */
  function candidates() {
    const made = preempt()
    const early = [new RecordingChannel(), new RecordingChannel()] as const
    const expected = new RecordingChannel()
    for (const one of early) made.channel.addEarly(one.asChannel)
    made.channel.add(expected.asChannel)
    made.start()
    return { ...made, early, expected }
  }

  it('chooses the first one that delivers a page, and closes the others', () => {
    const { early, expected, log, channel } = candidates()
    early[1].receive(namedPage(2))
    assert.deepEqual([early[0].broken, early[1].broken, expected.broken], [true, false, true])
    for (const one of [early[0], expected]) one.settle()
    assert.deepEqual(log, ['page 2', 'placed'])
    assert.equal(channel.isOver, false)
    const late = new RecordingChannel()
    channel.addEarly(late.asChannel)
    assert.equal(late.broken, true)
  })

  it('chooses none for a part of a record', () => {
    const { early, expected } = candidates()
    early[0].receive(namedPage(2).subarray(0, 20))
    assert.deepEqual([early[1].broken, expected.broken], [false, false])
  })

  it('drops a stranger that sends something else or closes, and continues', () => {
    const { early, expected, log, channel } = candidates()
    early[0].receive(garbage)
    early[1].end()
    assert.deepEqual([early[0].broken, early[1].broken], [true, true])
    assert.equal(channel.isOver, false)
    assert.deepEqual(log, [])
    expected.receive(namedPage(4))
    assert.deepEqual(log, ['page 4', 'placed'])
  })

  it('is over after the last stranger was dropped, if no connection was expected', () => {
    const { channel, log, start } = preempt()
    const early = new RecordingChannel()
    channel.addEarly(early.asChannel)
    start()
    early.end()
    assert.equal(channel.isOver, true)
    assert.deepEqual(log, [])
  })

  it('ends with the chosen connection, although that was not the expected one', () => {
    const { early, log, channel } = candidates()
    early[0].receive(namedPage(2))
    early[0].end()
    assert.deepEqual(log, ['page 2', 'placed', 'closed'])
    assert.equal(channel.isOver, true)
  })

  it('polls the chosen one, else the expected one, else the first', () => {
    const { channel, start } = preempt()
    const [first, second, expected] = [
      new RecordingChannel(),
      new RecordingChannel(),
      new RecordingChannel(),
    ]
    const spins = (): number[] => {
      channel.spin(10, 0)
      return [first, second, expected].map((one) => one.spins.splice(0).length)
    }
    assert.deepEqual(spins(), [0, 0, 0])
    channel.addEarly(first.asChannel)
    channel.addEarly(second.asChannel)
    assert.deepEqual(spins(), [1, 0, 0])
    channel.add(expected.asChannel)
    assert.deepEqual(spins(), [0, 0, 1])
    start()
    second.receive(namedPage(1))
    assert.deepEqual(spins(), [0, 1, 0])
  })
})

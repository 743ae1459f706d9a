import assert from 'node:assert/strict'
import { holdSecondConnection } from '../../src/park/second-connection.js'
import { MULTIFD_MAGIC, encode, encodeFileHeader } from '../../src/stream/index.js'
import { RecordingChannel } from '../support/recording-channel.js'
import { record } from '../support/records.js'

function held() {
  const channel = new RecordingChannel()
  const log: string[] = []
  holdSecondConnection(channel.asChannel, {
    multifd: () => void log.push('multifd'),
    closed: () => void log.push('closed'),
  })
  return { channel, log }
}

const endMark = record(0x10)

describe('a further connection while a VM is parked', () => {
  it('is kept while it is silent, and whatever follows the end mark of a preempt channel', () => {
    const { channel, log } = held()
    channel.receive(endMark.subarray(0, 7))
    channel.receive(endMark.subarray(7))
    channel.receive(encode(encodeFileHeader))
    assert.deepEqual([channel.broken, log], [false, []])
  })

  for (const [what, bytes, reports] of [
    ['another source', encode(encodeFileHeader), []],
    ['an end mark with an offset', record(2 ** 32 + 0x10), []],
    ['a multifd channel', encode((out) => out.u32(MULTIFD_MAGIC).u32(1)), ['multifd']],
  ] as const) {
    it(`is rejected if it is ${what}`, () => {
      const { channel, log } = held()
      channel.receive(bytes)
      assert.deepEqual([channel.broken, channel.error?.code], [true, 'ERR_CONNECTION_BUSY'])
      assert.deepEqual(log, reports)
      channel.settle()
      assert.deepEqual(log, [...reports, 'closed'])
    })
  }

  it('is closed when its peer closes it', () => {
    const { channel, log } = held()
    channel.end()
    assert.equal(channel.broken, true)
    channel.settle()
    assert.deepEqual(log, ['closed'])
  })
})

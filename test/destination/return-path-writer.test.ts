import assert from 'node:assert/strict'
import { ReturnPathWriter } from '../../src/destination/return-path-writer.js'
import { encodePong } from '../../src/stream/index.js'
import { RecordingChannel } from '../support/recording-channel.js'
import { destinationBlock, returnPathMessages } from './support.js'

const MOST_UNREAD_BYTES = 100

function writerOn(channel = new RecordingChannel()) {
  const writer = new ReturnPathWriter(MOST_UNREAD_BYTES)
  writer.isOpen = true
  writer.connect(channel.asChannel)
  return { writer, channel }
}

const pong = (value: number) => (out: Parameters<typeof encodePong>[0]) => encodePong(out, value)

describe('ReturnPathWriter', () => {
  it('collects messages, and sends them in order with one write', () => {
    const { writer, channel } = writerOn()
    const targets = [destinationBlock(8), destinationBlock(8, 4, 'rom')]
    writer.queue(pong(1))
    writer.queueRequest('ram', 3 * 4096, 4096)
    writer.queueRequest(undefined, 4 * 4096, 4096)
    writer.queueRequest('rom', 4 * 4096, 4 * 4096)
    assert.equal(channel.written.length, 0)
    assert.equal(writer.flush(), true)
    assert.equal(channel.written.length, 1)
    assert.deepEqual(returnPathMessages(channel.bytes, targets), [
      'PONG 1',
      'ram:3',
      'ram:4',
      'rom:4+4',
    ])
  })

  it('has nothing to send after a flush', () => {
    const { writer, channel } = writerOn()
    writer.queue(pong(1))
    writer.flush()
    assert.equal(writer.flush(), false)
    assert.equal(channel.written.length, 1)
  })

  it('sends a message at once, after those that wait', () => {
    const { writer, channel } = writerOn()
    writer.queue(pong(1))
    writer.send(pong(2))
    assert.deepEqual(returnPathMessages(channel.bytes, []), ['PONG 1', 'PONG 2'])
  })

  it('drops messages while the source reads no return path', () => {
    const { writer, channel } = writerOn()
    writer.isOpen = false
    writer.queueRequest('ram', 0, 4096)
    writer.send(pong(1))
    assert.equal(writer.flush(), false)
    writer.isOpen = true
    assert.equal(writer.flush(), false)
    assert.equal(channel.written.length, 0)
  })

  it('writes nothing to a broken connection', () => {
    const { writer, channel } = writerOn()
    channel.breakOff('ECONNRESET')
    writer.send(pong(1))
    assert.equal(channel.written.length, 0)
  })

  it('sends the received bitmap of each block once', () => {
    const { writer, channel } = writerOn()
    const targets = [destinationBlock(70), destinationBlock(8, 1, 'rom')]
    for (const { block, received } of targets) writer.queueBitmap(block.name, received.bytes)
    writer.flush()
    assert.deepEqual(returnPathMessages(channel.bytes, targets), ['bitmap of ram', 'bitmap of rom'])
    assert.throws(() => writer.queueBitmap('rom', new Uint8Array(8)), { code: 'ERR_PEER_PROTOCOL' })
    assert.equal(writer.flush(), false)
  })

  it('limits what the source leaves unread, except the bitmaps that it has requested', () => {
    const { writer, channel } = writerOn()
    writer.checkUnread()
    channel.unsentBytes = MOST_UNREAD_BYTES
    writer.checkUnread()
    channel.unsentBytes = MOST_UNREAD_BYTES + 1
    assert.throws(() => writer.checkUnread(), { code: 'ERR_PEER_UNREAD' })
    writer.queueBitmap('ram', new Uint8Array(16))
    channel.unsentBytes = MOST_UNREAD_BYTES + 16
    writer.checkUnread()
    channel.unsentBytes += 1
    assert.throws(() => writer.checkUnread(), { code: 'ERR_PEER_UNREAD' })
  })

  it('has no limit to check before there is a connection', () => {
    new ReturnPathWriter(0).checkUnread()
  })
})

import assert from 'node:assert/strict'
import { ReturnPath, type ReturnPathEvents } from '../../src/source/return-path.js'
import * as stream from '../../src/stream/index.js'
import { PAGE, tracked } from './support.js'

function returnPath(recovers = false) {
  const blocks = [tracked(16), tracked(16, 4, 'rom')]
  const log: string[] = []
  const events: ReturnPathEvents = {
    pong: (value) => void log.push(`pong ${value}`),
    pagesRequested: ({ block }, first, end) => void log.push(`${block.name} ${first} to ${end}`),
    changed: () => void log.push('changed'),
  }
  if (recovers) {
    events.received = ({ block }, bitmap) => {
      log.push(`${block.name} has ${bitmap.count()} of ${bitmap.pageCount}`)
    }
    events.resumeAcknowledged = () => void log.push('resumed')
  }
  const path = new ReturnPath(blocks, events)
  return {
    path,
    log,
    receive: (build: (out: stream.Writer) => void): number => {
      const bytes = stream.encode(build)
      return path.consume(bytes, 0, bytes.length)
    },
  }
}

describe('ReturnPath', () => {
  it('passes requests in target pages, and reports each read once', () => {
    const { receive, log } = returnPath()
    receive((out) => {
      stream.encodePong(out, 7)
      stream.encodePageRequest(out, 'ram', 15 * PAGE, PAGE)
      stream.encodePageRequest(out, undefined, 0, PAGE)
      stream.encodePageRequest(out, 'rom', 8 * PAGE, 8 * PAGE)
    })
    assert.deepEqual(log, ['pong 7', 'ram 15 to 16', 'ram 0 to 1', 'rom 8 to 16', 'changed'])
  })

  it('leaves an incomplete message for the next read', () => {
    const { path, log } = returnPath()
    const bytes = stream.encode((out) => {
      stream.encodePong(out, 1)
      stream.encodePong(out, 2)
    })
    const taken = path.consume(bytes, 0, bytes.length - 1)
    assert.equal(taken, bytes.length / 2)
    assert.equal(path.consume(bytes, taken, bytes.length), bytes.length / 2)
    assert.deepEqual(log, ['pong 1', 'changed', 'pong 2', 'changed'])
  })

  it('rejects requests outside of a block, on parts of host pages, and of no block', () => {
    for (const [name, first, pages] of [
      ['ram', 16, 1],
      ['ram', 15, 2],
      ['rom', 2, 4],
      ['rom', 4, 2],
      ['vram', 0, 1],
    ] as const) {
      const { receive, log } = returnPath()
      assert.throws(
        () => receive((out) => stream.encodePageRequest(out, name, first * PAGE, pages * PAGE)),
        /request|REQ_PAGES/,
        `${name} ${first}`,
      )
      assert.deepEqual(log, [])
    }
  })

  it('keeps the status of SHUT, and takes nothing after it', () => {
    const { path, receive, log } = returnPath()
    assert.equal(path.shutStatus, undefined)
    receive((out) => stream.encodeShut(out, 3))
    assert.equal(path.shutStatus, 3)
    assert.deepEqual(log, ['changed'])
    assert.throws(() => receive((out) => stream.encodePong(out, 1)), { code: 'ERR_PEER_PROTOCOL' })
  })

  it('takes the answers of a recovery only in a recovery', () => {
    const bitmap = (out: stream.Writer): void =>
      stream.encodeRecvBitmap(out, 'ram', Uint8Array.of(7, 1))
    const { receive, log } = returnPath(true)
    receive(bitmap)
    receive(stream.encodeResumeAck)
    assert.deepEqual(log, ['ram has 4 of 16', 'changed', 'resumed', 'changed'])
    for (const message of [bitmap, stream.encodeResumeAck]) {
      assert.throws(() => returnPath().receive(message), {
        code: 'ERR_PEER_PROTOCOL',
        message: /outside of a recovery/,
      })
    }
  })
})

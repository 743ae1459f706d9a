import assert from 'node:assert/strict'
import { PhaseMachine } from '../../src/migration/phases.js'
import { type SourcePhase, sourcePhases } from '../../src/source/phases.js'
import { ReturnPath, type ReturnPathActions } from '../../src/source/return-path.js'
import * as stream from '../../src/stream/index.js'
import { PAGE, tracked } from './support.js'

function returnPath(phase: SourcePhase = 'pushing') {
  const blocks = [tracked(16), tracked(16, 4, 'rom')]
  const log: string[] = []
  const actions: ReturnPathActions = {
    pong: (value) => void log.push(`pong ${value}`),
    queuePages: ({ block }, first, end) => void log.push(`${block.name} ${first} to ${end}`),
    keepBitmap: ({ block }, bitmap) =>
      void log.push(`${block.name} has ${bitmap.count()} of ${bitmap.pageCount}`),
    claim: () => void log.push('resumed'),
    changed: () => void log.push('changed'),
  }
  const phases = new PhaseMachine(sourcePhases, phase, () => undefined)
  const path = new ReturnPath(blocks, phases, actions)
  return {
    path,
    phases,
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

  const bitmap = (out: stream.Writer): void =>
    stream.encodeRecvBitmap(out, 'ram', Uint8Array.of(7, 1))
  const request = (out: stream.Writer): void => stream.encodePageRequest(out, 'ram', 0, PAGE)

  it('takes a received bitmap after the connection of a recovery, and its answer to RESUME', () => {
    const { receive, phases, log } = returnPath('recover-bitmaps')
    receive(bitmap)
    phases.take('POSTCOPY_RESUME')
    receive(stream.encodeResumeAck)
    assert.deepEqual(log, ['ram has 4 of 16', 'changed', 'resumed', 'changed'])
    assert.equal(phases.phase, 'pushing')
  })

  it('takes requests in every phase with a connection, and stays in it', () => {
    for (const phase of Object.keys(sourcePhases) as SourcePhase[]) {
      const isConnected = !/^(none|paused|cancel|completed|failed)/.test(phase)
      const { receive, phases, log } = returnPath(phase)
      if (isConnected) {
        receive(request)
        assert.deepEqual(log, ['ram 0 to 1', 'changed'], phase)
      } else {
        assert.throws(() => receive(request), { code: 'ERR_PEER_PROTOCOL' }, phase)
      }
      assert.equal(phases.phase, phase)
    }
  })

  it('rejects the messages of a recovery in every other phase', () => {
    for (const phase of Object.keys(sourcePhases) as SourcePhase[]) {
      for (const [message, only] of [
        [bitmap, 'recover-bitmaps'],
        [stream.encodeResumeAck, 'recover-resume'],
      ] as const) {
        if (phase === only) continue
        const { receive, log } = returnPath(phase)
        const { state } = sourcePhases[phase]
        assert.throws(() => receive(message), {
          code: 'ERR_PEER_PROTOCOL',
          message: new RegExp(`not valid in ${state} \\(phase ${phase}\\)`),
        })
        assert.deepEqual(log, [])
      }
    }
  })
})

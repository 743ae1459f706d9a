import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createCounters } from '../../src/migration/counters.js'
import { resolveOptions } from '../../src/migration/options.js'
import { PageBitmap } from '../../src/ram/page-bitmap.js'
import type { SourceBlock } from '../../src/source/block.js'
import { Recovery } from '../../src/source/recovery.js'
import * as stream from '../../src/stream/index.js'
import { listen } from './peer.js'
import { SourceStream, pagesOf, tracked } from './support.js'

const PAGES = 8

interface State {
  /** Pages that were never sent. */
  readonly unsent?: readonly number[]
  readonly confirmed?: readonly number[]
  readonly available?: readonly number[]
}

function bitmapOf(pages: readonly number[]): PageBitmap {
  const bitmap = new PageBitmap(PAGES)
  for (const page of pages) bitmap.set(page)
  return bitmap
}

function blockIn({ unsent = [], confirmed = [], available }: State): SourceBlock {
  return {
    ...tracked(PAGES),
    dirty: bitmapOf(unsent),
    owed: new PageBitmap(PAGES),
    confirmed: bitmapOf(confirmed),
    available: available === undefined ? undefined : bitmapOf(available),
  }
}

/**
 * A recovery from a destination that sends these messages, and then answers RESUME and, if it
 * `confirms`, the end.
 */
async function recover(
  block: SourceBlock,
  messages: readonly ((out: stream.Writer) => void)[] = [],
  confirms = true,
) {
  const { path, server, sockets } = await listen()
  const { capabilities, parameters } = resolveOptions({ capabilities: { 'postcopy-ram': true } })
  const log: string[] = []
  const counters = createCounters()
  const recovery = new Recovery(
    {
      stateChanged: (state, error) => {
        log.push(error === undefined ? state : `${state}: ${(error as { code: string }).code}`)
      },
      claimed: () => void log.push('claimed'),
      confirmed: () => void log.push('confirmed'),
    },
    [block],
    { uri: { type: 'unix', path }, tls: undefined, ramSectionId: 2, capabilities, parameters },
    counters,
  )
  const received = new SourceStream([block])
  const running = recovery.run()
  await once(server, 'connection')
  const [socket] = sockets
  assert(socket !== undefined)
  socket.on('data', (bytes: Uint8Array) => {
    received.push(bytes)
    const last = received.elements.at(-1)
    if (last === 'RESUME') socket.write(stream.encode(stream.encodeResumeAck))
    if (last !== 'EOF') return
    if (confirms) socket.write(stream.encode((out) => stream.encodeShut(out, 0)))
    else socket.destroy()
  })
  for (const message of messages) socket.write(stream.encode(message))
  return { recovery, running, log, received, counters, socket }
}

const has =
  (...pages: readonly number[]) =>
  (out: stream.Writer) =>
    stream.encodeRecvBitmap(out, 'ram', bitmapOf(pages).bytes)

const begin = ['postcopy-recover-setup', 'postcopy-recover']

describe('Recovery', () => {
  it('sends exactly what the destination does not have', async () => {
    const block = blockIn({ unsent: [6, 7] })
    const done = await recover(block, [has(0, 2, 5)])
    await done.running
    assert.deepEqual(done.log, [...begin, 'claimed', 'postcopy-active', 'confirmed', 'completed'])
    assert.deepEqual(done.received.elements.slice(0, 2), ['RECV_BITMAP', 'RESUME'])
    assert.deepEqual(done.received.pages, ['ram:1', ...pagesOf('ram', 3, 5), 'ram:6', 'ram:7'])
    assert.deepEqual(
      [...block.confirmed.runs()],
      [
        [0, 1],
        [2, 3],
        [5, 6],
      ],
    )
    assert(done.counters.endedAt > 0)
  })

  const refused: readonly [string, State, readonly number[]][] = [
    ['that has pages which were never sent', { unsent: [3] }, [3]],
    ['that misses pages which it had', { confirmed: [1] }, [0]],
    ['without a page that is not here either', { available: [0, 1, 2, 3, 4, 5, 6] }, [0]],
  ]
  for (const [what, state, pages] of refused) {
    it(`stays paused with a destination ${what}`, async () => {
      const block = blockIn(state)
      const before = [...block.dirty.bytes]
      const { running, log, received } = await recover(block, [has(...pages)])
      await running
      assert.deepEqual(log, [...begin, 'postcopy-paused: ERR_PEER_BITMAP'])
      assert.deepEqual([...block.dirty.bytes], before)
      assert.deepEqual(received.pages, [])
    })
  }

  it('takes a page that is only at the destination', async () => {
    const block = blockIn({ available: [0, 1, 2, 3, 4, 5, 6] })
    const { running, log } = await recover(block, [has(7)])
    await running
    assert.equal(log.at(-1), 'completed')
  })

  for (const [what, messages] of [
    ['a bitmap twice', [has(0), has(0)]],
    ['an answer to no RESUME', [stream.encodeResumeAck]],
  ] as const) {
    it(`stays paused after ${what}`, async () => {
      const { running, log } = await recover(blockIn({}), messages)
      await running
      assert.equal(log.at(-1), 'postcopy-paused: ERR_PEER_PROTOCOL')
      assert.equal(log.filter((one) => one.startsWith('postcopy-paused')).length, 1)
    })
  }

  it('stays paused when its connection closes', async () => {
    const { running, log, socket } = await recover(blockIn({}))
    socket.destroy()
    await running
    assert.equal(log.at(-1), 'postcopy-paused: ERR_CONNECTION_CLOSED')
  })

  it('stays paused if the end is not confirmed', async () => {
    const { running, log, received } = await recover(blockIn({}), [has(0)], false)
    await running
    assert.equal(received.elements.at(-1), 'EOF')
    assert.deepEqual(log.slice(-2), ['postcopy-active', 'postcopy-paused: ERR_CONNECTION_CLOSED'])
  })

  it('can be paused while it waits for an answer', async () => {
    const { recovery, running, log, socket } = await recover(blockIn({}))
    // The request for the received bitmap: the source is connected and waits.
    await once(socket, 'data')
    recovery.pause()
    await running
    assert.equal(log.at(-1), 'postcopy-paused: ERR_CONNECTION_PAUSED')
  })
})

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createCounters } from '../../src/migration/counters.js'
import { type Capabilities, resolveOptions } from '../../src/migration/options.js'
import { PhaseMachine } from '../../src/migration/phases.js'
import type { SentBlock } from '../../src/source/block.js'
import { type SourcePhase, sourcePhases } from '../../src/source/phases.js'
import { Session } from '../../src/source/session.js'
import { tick } from '../../src/source/signal.js'
import * as stream from '../../src/stream/index.js'
import { cleanups } from '../support/cleanup.js'
import { Clock } from '../support/clock.js'
import { listen } from './peer.js'
import { PAGE, SourceStream, pagesOf, tracked } from './support.js'

const LONG_MS = 30_000

interface Setting {
  readonly path: string
  readonly capabilities: Partial<Capabilities>
  readonly phase: SourcePhase
  readonly loaded: () => void
}

function sessionOf(
  blocks: readonly SentBlock[],
  {
    path = '/nowhere',
    capabilities = {},
    phase = 'pushing',
    loaded = () => undefined,
  }: Partial<Setting> = {},
): Session {
  const phases = new PhaseMachine(sourcePhases, phase, () => undefined)
  const resolved = resolveOptions({ capabilities: { 'postcopy-ram': true, ...capabilities } })
  const session = new Session(
    blocks,
    phases,
    {
      uri: { type: 'unix', path },
      tls: undefined,
      ramSectionId: undefined,
      capabilities: resolved.capabilities,
      parameters: () => resolved.parameters,
      signal: new AbortController().signal,
    },
    createCounters(),
    {
      loaded: () => {
        phases.take('loaded', { claim: () => undefined })
        loaded()
      },
    },
  )
  session.ram.recount()
  cleanups.add(() => session.close())
  return session
}

/** Lets a message of the destination arrive. */
function receive(session: Session, build: (out: stream.Writer) => void): void {
  const bytes = stream.encode(build)
  session.returnPath.consume(bytes, 0, bytes.length)
}

/** A session that is connected to a destination, which the test is. */
async function connected(blocks: readonly SentBlock[], setting: Partial<Setting> = {}) {
  const peer = await listen()
  const session = sessionOf(blocks, { ...setting, path: peer.path })
  const [link] = await Promise.all([session.connect(), once(peer.server, 'connection')])
  const [socket] = peer.sockets
  assert(socket !== undefined)
  return { ...peer, session, link, socket }
}

describe('the verdict of a Session', () => {
  it('takes SHUT 0 only after everything was sent', async () => {
    const session = sessionOf([tracked(4)])
    session.check()
    receive(session, (out) => stream.encodeShut(out, 0))
    assert.throws(() => session.check(), { code: 'ERR_PEER_PROTOCOL' })
    await assert.rejects(
      session.waitFor(() => false, LONG_MS),
      { code: 'ERR_PEER_PROTOCOL' },
    )
    session.everythingSent()
    session.check()
    await session.confirmed()
  })

  it('takes any other SHUT as a refusal, which explains every later failure', async () => {
    const session = sessionOf([tracked(4)])
    receive(session, (out) => stream.encodeShut(out, 3))
    session.everythingSent()
    assert.throws(() => session.check(), { code: 'ERR_PEER_REFUSED', message: /SHUT 3/ })
    await assert.rejects(session.confirmed(), { code: 'ERR_PEER_REFUSED' })
    const reason = session.reasonFor(new Error('reset'))
    assert.equal((reason as { code: string }).code, 'ERR_PEER_REFUSED')
  })

  it('is otherwise the failure itself', () => {
    const error = new Error('reset')
    assert.equal(sessionOf([tracked(4)]).reasonFor(error), error)
  })

  it('is that the destination has closed the connection', async () => {
    const { session, socket } = await connected([tracked(4)])
    socket.destroy()
    await assert.rejects(session.confirmed(), { code: 'ERR_CONNECTION_CLOSED' })
    assert.throws(() => session.check(), { code: 'ERR_CONNECTION_CLOSED' })
  })
})

describe('Session.waitFor', () => {
  it('ends with a message that makes the condition true', async () => {
    const { session, socket } = await connected([tracked(4)])
    const answered = session.waitFor(() => session.returnPath.shutStatus !== undefined, LONG_MS)
    socket.write(stream.encode((out) => stream.encodeShut(out, 0)))
    session.everythingSent()
    assert.equal(await answered, true)
  })

  it('ends after its timeout, or at once if nothing is to be waited for', async () => {
    const session = sessionOf([tracked(4)])
    assert.equal(await session.waitFor(() => false, 1), false)
    assert.equal(await session.waitFor(() => true, 0), true)
  })
})

describe('the messages of a Session', () => {
  it('wake what waits, except requests that were served at once', async () => {
    // The push waits for PONG 0x42, and not until some time has passed.
    new Clock()
    const block = tracked(8)
    const { session, link, socket } = await connected([block], { phase: 'package-sent' })
    session.ram.beginPostcopy()
    const running = session.push.run(link, undefined)
    await tick()
    await tick()
    let woken = 0
    const wait = (): void => void session.signal.wait().then(() => (woken += 1))
    wait()
    receive(session, (out) => stream.encodePageRequest(out, 'ram', 3 * PAGE, PAGE))
    await tick()
    assert.equal(woken, 0)
    receive(session, (out) => stream.encodePong(out, 1))
    await tick()
    assert.equal(woken, 1)
    receive(session, (out) => stream.encodePong(out, stream.PingValue.packageLoaded))
    socket.resume()
    await running
    assert.equal(session.ram.remainingPages, 0)
  })

  it('report that the package is loaded, only after it was sent', () => {
    for (const [phase, reports] of [
      ['precopy', []],
      ['package-sent', ['loaded']],
      ['pushing', []],
    ] as const) {
      const log: string[] = []
      const loaded = (): void => void log.push('loaded')
      const session = sessionOf([tracked(4)], { phase, loaded })
      receive(session, (out) => stream.encodePong(out, stream.PingValue.devicesLoaded))
      assert.deepEqual(log, [])
      receive(session, (out) => stream.encodePong(out, stream.PingValue.packageLoaded))
      assert.deepEqual(log, reports, phase)
    }
  })
})

describe('Session.sendAll', () => {
  for (const preempt of [false, true]) {
    it(`ends the stream after the last page${preempt ? ', and the preempt channel' : ''}`, async () => {
      const block = tracked(4)
      const made = await connected([block], { capabilities: { 'postcopy-preempt': preempt } })
      const { session, link, socket, sockets, server } = made
      const received = new SourceStream([block])
      const isEnded = new Promise<void>((resolve) => {
        socket.on('data', (bytes: Uint8Array) => {
          received.push(bytes)
          if (received.elements.at(-1) === 'EOF') resolve()
        })
      })
      const second = preempt ? once(server, 'connection') : undefined
      await session.openUrgentLink()
      await second
      session.ram.beginPostcopy()
      await session.sendAll(link)
      await isEnded
      assert.deepEqual(
        received.elements.filter((one) => one !== 'ping' && one !== 'PART'),
        [...pagesOf('ram', 0, 4).map((one) => `${one} zero`), 'END', 'EOF'],
      )
      assert.equal(sockets.length, preempt ? 2 : 1)
      const [, urgent] = sockets
      if (urgent === undefined) {
        receive(session, (out) => stream.encodeShut(out, 0))
        session.check()
        return
      }
      const [mark] = (await once(urgent, 'data')) as [Uint8Array]
      assert.deepEqual(new Uint8Array(mark), stream.encode(stream.encodeRamEndOfSection))
      // Once everything is sent, the destination may close it.
      const isClosed = session.signal.wait()
      urgent.destroy()
      await isClosed
      session.check()
      receive(session, (out) => stream.encodeShut(out, 0))
      await session.confirmed()
    })
  }

  it('needs the preempt channel until everything is sent', async () => {
    const { session, sockets, server } = await connected([tracked(4)], {
      capabilities: { 'postcopy-preempt': true },
    })
    const second = once(server, 'connection')
    await session.openUrgentLink()
    await second
    await session.openUrgentLink()
    assert.equal(sockets.length, 2, 'opened once')
    sockets[1]?.destroy()
    await assert.rejects(
      session.waitFor(() => false, LONG_MS),
      { code: 'ERR_CONNECTION_CLOSED' },
    )
  })

  it('rejects a destination that writes to the preempt channel', async () => {
    const { session, sockets, server } = await connected([tracked(4)], {
      capabilities: { 'postcopy-preempt': true },
    })
    const second = once(server, 'connection')
    await session.openUrgentLink()
    await second
    sockets[1]?.write('x')
    await assert.rejects(
      session.waitFor(() => false, LONG_MS),
      { code: 'ERR_PEER_PROTOCOL' },
    )
  })
})

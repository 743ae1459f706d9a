import assert from 'node:assert/strict'
import diagnostics from 'node:diagnostics_channel'
import { once } from 'node:events'
import net from 'node:net'
import { PassThrough } from 'node:stream'
import { join } from 'node:path'
import { defaultCapabilities } from '../../src/migration/options.js'
import {
  type MonitorFormat,
  MonitorSession,
  bindUnix,
  serveBound,
  serveStreams,
  serveUnix,
} from '../../src/monitor/index.js'
import { ask, temporaryFolder } from '../cli/support.js'
import { cleanups } from '../support/cleanup.js'
import { monitorOver } from './support.js'

async function session(format: MonitorFormat = 'text') {
  const monitor = await monitorOver()
  return { monitor, session: new MonitorSession(monitor, format) }
}

describe('the monitor on streams', () => {
  it('prompts, answers each line in order, and reports the end of the input', async () => {
    const { session: text } = await session()
    const [input, output] = [new PassThrough(), new PassThrough()]
    const ended = new Promise<void>((resolve) => {
      serveStreams(text, input, output, resolve)
    })
    input.end('info status\nnonsense\ncont\ninfo status')
    await ended
    output.end()
    const answers = (await output.toArray()).join('')
    assert.equal(
      answers,
      '(postcopy) VM status: paused\n' +
        '(postcopy) Error: unknown command "nonsense": help lists the commands\n' +
        '(postcopy) (postcopy) VM status: running\n(postcopy) ',
    )
  })

  it('removes control characters of a line from its answer', async () => {
    const { session: text } = await session()
    assert.equal(
      await text.answer('in\x1b[2J\u202efo\x9b'),
      'Error: unknown command "in\\x1b[2J\\u{202e}fo\\x9b": help lists the commands\n',
    )
    const { session: json } = await session('json')
    assert.doesNotMatch((await json.answer('in\x1b[2J\u202efo\x9b')).trimEnd(), /\p{Cc}|\p{Cf}/u)
    assert((await text.answer('x'.repeat(100_000))).length < 1000)
  })

  it('answers in JSON, one object a line', async () => {
    const { session: json } = await session('json')
    const good = JSON.parse(await json.answer('info migrate_capabilities')) as object
    assert.deepEqual(good, {
      return: Object.keys(defaultCapabilities).map((capability) => ({ capability, state: false })),
      timestamp: (good as { timestamp: unknown }).timestamp,
    })
    const bad = JSON.parse(await json.answer('migrate nowhere')) as { error: object }
    assert.equal((bad.error as { code: string }).code, 'ERR_INVALID_URI')
    assert.equal((bad.error as { class: string }).class, 'GenericError')
  })
})

/** A monitor on a unix socket of its own. */
async function served(): Promise<string> {
  const { session: text } = await session()
  const path = join(await temporaryFolder(), 'monitor')
  const server = await serveUnix(text, path)
  cleanups.add(() => server.close())
  return path
}

async function connectTo(path: string): Promise<net.Socket> {
  const socket = net.connect(path)
  cleanups.add(() => socket.destroy())
  socket.on('error', () => undefined)
  await once(socket, 'connect')
  return socket
}

describe('a client of the monitor on a unix socket', () => {
  it('that sends an endless line uses 1 MiB, and can send commands after it', async () => {
    const path = await served()
    const socket = (await connectTo(path)).setEncoding('utf8')
    let text = ''
    socket.on('data', (chunk: string) => (text += chunk))
    socket.write('x'.repeat(4 * 2 ** 20))
    socket.end('\ninfo status\r\ninfo status')
    await once(socket, 'close')
    assert.equal(
      text.replaceAll('(postcopy) ', ''),
      'Error: a line of more than 1048576 bytes was dropped\nVM status: paused\nVM status: paused\n',
    )
  })

  it('that does not read its answers is not read, and others are served', async () => {
    const path = await served()
    const socket = (await connectTo(path)).pause()
    // Ends when the monitor stops reading: then the kernel's buffer is full.
    while (socket.write('help\n'.repeat(10_000))) await new Promise(setImmediate)
    assert.equal(await ask(path, 'info status'), 'VM status: paused\n')
    socket.destroy()
  })

  it('that has connected and sent its last byte before the monitor serves is answered and closed', async () => {
    const { session: text } = await session()
    const path = join(await temporaryFolder(), 'monitor')
    const bound = await bindUnix(path)
    cleanups.add(() => bound.close())
    const accepted = new Promise<net.Socket>((resolve) => {
      const look = (message: unknown): void => resolve((message as { socket: net.Socket }).socket)
      diagnostics.subscribe('net.server.socket', look)
      cleanups.add(() => {
        diagnostics.unsubscribe('net.server.socket', look)
      })
    })
    const client = await connectTo(path)
    const answer = client.setEncoding('utf8').toArray()
    const ended = once(await accepted, 'end')
    client.end()
    await ended
    const server = serveBound(text, bound)
    cleanups.add(() => server.close())
    assert.equal((await answer).join(''), '(postcopy) ')
  })

  it('is rejected above the limit, and accepted after another one closes', async () => {
    const path = await served()
    const sockets: net.Socket[] = []
    for (let count = 0; count < 64; count += 1) {
      const socket = await connectTo(path)
      await once(socket, 'data')
      sockets.push(socket)
    }
    const further = await connectTo(path)
    further.on('data', () => assert.fail('it was served'))
    await once(further, 'close')
    const [first] = sockets
    assert(first !== undefined)
    first.end()
    await once(first, 'close')
    assert.equal(await ask(path, 'info status'), 'VM status: paused\n')
  })
})

describe('the monitor on a unix socket', () => {
  it('serves one client after another, and several at once in one queue', async () => {
    const { session: text, monitor } = await session()
    const path = join(await temporaryFolder(), 'monitor')
    const server = await serveUnix(text, path)
    cleanups.add(() => {
      server.close()
    })
    assert.equal(await ask(path, 'cont', 'info status'), 'VM status: running\n')
    const answers = await Promise.all([
      ask(path, 'stop', 'info status'),
      ask(path, 'help migrate_cancel'),
      ask(path, 'info status'),
    ])
    assert.equal(answers[0], 'VM status: paused\n')
    assert.match(answers[1], /^migrate_cancel {2}/)
    assert.match(answers[2], /^VM status: (running|paused)\n$/)
    assert.equal(monitor.queryStatus().running, false)
  })

  it('serves other clients while migrate without -d waits', async () => {
    const { session: text, monitor } = await session()
    const path = join(await temporaryFolder(), 'monitor')
    const silent = net.createServer()
    const connected = once(silent, 'connection')
    silent.listen(0, '127.0.0.1')
    await once(silent, 'listening')
    cleanups.add(async () => {
      const [socket] = (await connected) as [net.Socket]
      socket.destroy()
      silent.close()
    })
    const server = await serveUnix(text, path)
    cleanups.add(() => {
      server.close()
    })
    const { port } = silent.address() as net.AddressInfo
    const waiting = ask(path, `migrate tcp:127.0.0.1:${port}`, 'info status')
    await connected
    assert.equal(await ask(path, 'migrate_cancel'), '')
    // The waiting client gets its answers in the order of its commands.
    assert.match(await waiting, /^Migration status: cancelled\n[^]*VM status: paused\n$/)
    assert.equal(monitor.source?.state, 'cancelled')
  })

  it('replaces an unused socket, and refuses one that is in use', async () => {
    const { session: text } = await session()
    const path = join(await temporaryFolder(), 'monitor')
    const server = await serveUnix(text, path)
    cleanups.add(() => {
      server.close()
    })
    await assert.rejects(serveUnix(text, path), { code: 'EADDRINUSE' })
    assert.equal(await ask(path, 'info status'), 'VM status: paused\n')
  })
})

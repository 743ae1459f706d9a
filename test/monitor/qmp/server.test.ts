import assert from 'node:assert/strict'
import { once } from 'node:events'
import { stat } from 'node:fs/promises'
import { createConnection } from 'node:net'
import { join } from 'node:path'
import { parseUri } from '../../../src/net/uri.js'
import { type QmpEvent, QmpServer, type QmpTarget } from '../../../src/monitor/qmp/index.js'
import { temporaryFolder } from '../../cli/support.js'
import { cleanups } from '../../support/cleanup.js'
import { QmpClient } from '../../support/qmp-client.js'

/** A target whose `stop` waits until the test releases it. */
class Stage implements QmpTarget {
  readonly order: string[] = []
  tell: (event: QmpEvent) => void = () => undefined
  listening = false
  release: () => void = () => undefined

  readonly control = {
    queryStatus: () => ({ running: true, status: 'running' as const }),
    queryMigrate: () => ({}),
    quit: () => {
      this.tell({ event: 'SHUTDOWN', data: { guest: false, reason: 'host-qmp-quit' } })
    },
    stop: async () => {
      this.order.push('stop begins')
      await new Promise<void>((resolve) => (this.release = resolve))
      this.order.push('stop ends')
    },
    cont: () => void this.order.push('cont'),
  }

  listen(tell: (event: QmpEvent) => void): () => void {
    this.tell = tell
    this.listening = true
    return () => {
      this.listening = false
    }
  }
}

async function serve(uri = 'tcp::0'): Promise<{ stage: Stage; server: QmpServer }> {
  const stage = new Stage()
  const server = await QmpServer.listen(stage, uri, { allowInsecureTcp: true })
  cleanups.add(() => server.close())
  return { stage, server }
}

function addressOf({ uri }: QmpServer): { host: string; port: number } {
  const parsed = parseUri(uri)
  assert(parsed.type === 'tcp')
  return parsed
}

async function client(server: QmpServer): Promise<QmpClient> {
  const connected = await QmpClient.connect(addressOf(server))
  cleanups.add(() => connected.close())
  return connected
}

/** Sends bytes, ends its side, and returns the received messages. */
async function talk(server: QmpServer, text: string): Promise<Record<string, unknown>[]> {
  const socket = createConnection(addressOf(server))
  const chunks: Buffer[] = []
  socket.on('data', (chunk) => chunks.push(chunk))
  socket.end(text)
  await once(socket, 'close')
  const lines = Buffer.concat(chunks).toString().split('\r\n')
  assert.equal(lines.pop(), '')
  return lines.map((line) => JSON.parse(line) as Record<string, unknown>)
}

describe('a QMP server', () => {
  it('listens on loopback by default', async () => {
    const { server } = await serve()
    assert.match(server.uri, /^tcp:127\.0\.0\.1:[1-9]\d*$/)
  })

  it('has a unix socket that only its owner can use, and removes it at its end', async () => {
    const path = join(await temporaryFolder(), 'qmp')
    const { server } = await serve(`unix:${path}`)
    assert.equal(server.uri, `unix:${path}`)
    assert.equal((await stat(path)).mode & 0o777, 0o600)
    const one = await QmpClient.connect({ path })
    assert.deepEqual(await one.execute('cont'), {})
    await server.close()
    await assert.rejects(stat(path), { code: 'ENOENT' })
  })

  it('does not subscribe to its target if it cannot listen', async () => {
    const { server } = await serve()
    const stage = new Stage()
    const again = QmpServer.listen(stage, server.uri, { allowInsecureTcp: true })
    await assert.rejects(again, { code: 'EADDRINUSE' })
    assert.equal(stage.listening, false)
  })

  for (const uri of ['tcp::0', 'tcp:127.0.0.1:0', 'tcp:[::1]:0', 'tcp:localhost:0']) {
    it(`does not listen on ${uri} without permission`, async () => {
      const stage = new Stage()
      await assert.rejects(QmpServer.listen(stage, uri), {
        code: 'ERR_QMP_INSECURE',
        message: /no password.*unix:PATH.*--qmp-tcp-insecure/,
      })
      assert.equal(stage.listening, false)
    })
  }

  const negotiate = '{"execute":"qmp_capabilities"}'
  for (const [what, first] of [
    ['HTTP', 'POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\n\r\n'],
    ['a migration', 'QEVM\0\0\0\x03'],
    ['a list', '['],
  ]) {
    it(`runs no command of a client that begins with ${what}, even if QMP follows`, async () => {
      const { server, stage } = await serve()
      const messages = await talk(server, `${first}${negotiate}{"execute":"cont"}`)
      assert.deepEqual(messages.map(Object.keys), [['QMP']])
      assert.deepEqual(stage.order, [])
    })
  }

  it('accepts white space before the first value', async () => {
    const { server } = await serve()
    const [, negotiated] = await talk(server, `\r\n \t${negotiate}`)
    assert.deepEqual(negotiated, { return: {} })
  })

  it('closes the connection of a client after eight errors before the negotiation', async () => {
    const { server, stage } = await serve()
    const messages = await talk(
      server,
      `${'{"execute":"stop"}'.repeat(9)}${negotiate}{"execute":"cont"}`,
    )
    assert(messages.length <= 10)
    assert(messages.slice(1).every((message) => 'error' in message))
    assert.deepEqual(stage.order, [])
    const more = await talk(
      server,
      `${'{"execute":"stop"}'.repeat(8)}${negotiate}{"execute":"cont"}`,
    )
    assert.deepEqual(more.slice(-2), [{ return: {} }, { return: {} }])
    assert.deepEqual(stage.order, ['cont'])
  })

  it('answers a burst of values in order, then closes with the client', async () => {
    const { server } = await serve()
    const burst =
      '{"execute":"qmp_capabilities"}rubbish{"execute":\n"query-status",\n"id":1}' +
      '{"execute":"cont","id":2} {"execute":"cont"'
    const [greeting, negotiated, error, status, cont, ...rest] = await talk(server, burst)
    assert(greeting?.['QMP'] !== undefined)
    assert.deepEqual(negotiated, { return: {} })
    assert.match((error?.['error'] as { desc: string }).desc, /invalid keyword 'rubbish'/)
    assert.deepEqual(status, { return: { running: true, status: 'running' }, id: 1 })
    assert.deepEqual(cont, { return: {}, id: 2 })
    assert.match(JSON.stringify(rest), /premature end of input/)
  })

  it('runs the commands of all clients one after another', async () => {
    const { server, stage } = await serve()
    const [one, two] = [await client(server), await client(server)]
    const stopped = one.execute('stop')
    while (stage.order.length === 0) await new Promise(setImmediate)
    const continued = two.execute('cont')
    // The other client's command has arrived by then, and waits.
    await new Promise((resolve) => setTimeout(resolve, 30))
    assert.deepEqual(stage.order, ['stop begins'])
    stage.release()
    await Promise.all([stopped, continued])
    assert.deepEqual(stage.order, ['stop begins', 'stop ends', 'cont'])
  })

  it('sends an event to every client that has negotiated, at once', async () => {
    const { server, stage } = await serve()
    const clients = [await client(server), await client(server)]
    const silent = createConnection(addressOf(server)).setEncoding('utf8')
    cleanups.add(() => silent.destroy())
    const [greeting] = (await once(silent, 'data')) as [string]
    assert.match(greeting, /^\{"QMP"/)
    silent.on('data', (text: string) => assert.fail(text))
    // Between a command and its answer.
    const answers = clients.map((one) => one.execute('stop'))
    while (stage.order.length === 0) await new Promise(setImmediate)
    const before = Date.now() / 1000
    stage.tell({ event: 'MIGRATION', data: { status: 'setup' } })
    for (const one of clients) {
      const { data, timestamp } = await one.told('MIGRATION')
      assert.deepEqual(data, { status: 'setup' })
      assert(Math.abs(timestamp.seconds + timestamp.microseconds / 1e6 - before) < 5)
      assert(Number.isInteger(timestamp.microseconds))
    }
    stage.release()
    await answers[0]
    while (stage.order.length < 3) await new Promise(setImmediate)
    stage.release()
    await answers[1]
  })

  it('continues when a client closes during a command', async () => {
    const { server, stage } = await serve()
    const one = await client(server)
    one.execute('stop').catch(() => undefined)
    while (stage.order.length === 0) await new Promise(setImmediate)
    one.close()
    stage.release()
    assert.deepEqual(await (await client(server)).execute('cont'), {})
  })

  it('emits SHUTDOWN and answers quit before it closes', async () => {
    const { server, stage } = await serve()
    const [one, two] = [await client(server), await client(server)]
    assert.deepEqual(await one.execute('quit'), {})
    await server.close()
    for (const each of [one, two]) {
      const { data } = await each.told('SHUTDOWN')
      assert.deepEqual(data, { guest: false, reason: 'host-qmp-quit' })
    }
    assert.equal(stage.listening, false)
  })

  it('does not wait for ever for a client that reads nothing', async () => {
    const { server } = await serve()
    const socket = createConnection(addressOf(server)).pause()
    cleanups.add(() => socket.destroy())
    socket.on('error', () => undefined)
    await once(socket, 'connect')
    // More answers than the kernel buffers for the client: the server stops reading.
    const command = '{"execute":"query-commands"}'
    socket.write('{"execute":"qmp_capabilities"}')
    while (socket.write(command.repeat(10_000))) await new Promise(setImmediate)
    const other = await client(server)
    assert.deepEqual(await other.execute('cont'), {})
    const from = performance.now()
    await server.close()
    assert(performance.now() - from < 5000)
  })
})

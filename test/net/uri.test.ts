import assert from 'node:assert/strict'
import { once } from 'node:events'
import net from 'node:net'
import { Destination } from '../../src/destination/destination.js'
import { formatUri, parseUri } from '../../src/net/uri.js'
import { MonitorSession, serveUnix } from '../../src/monitor/index.js'
import { QmpServer, guestTarget } from '../../src/monitor/qmp/index.js'
import { Park } from '../../src/park/index.js'
import { Source } from '../../src/source/source.js'
import { LinkProxy } from '../../src/testing/index.js'
import { runCli, temporaryFolder } from '../cli/support.js'
import { monitorOver } from '../monitor/support.js'
import { cleanups } from '../support/cleanup.js'
import { TestMachine } from '../support/test-machine.js'

/** A path of 107 bytes, and one of 108 bytes that begins with it. */
const [fits, tooLong] = ['x', 'xy'].map((end) => `/tmp/${'p'.repeat(101)}${end}`)
assert(fits !== undefined && tooLong !== undefined)

const refused = { code: 'ERR_INVALID_URI', message: /108 bytes.* at most 107/ }

describe('a URI', () => {
  for (const text of ['tcp::0', 'tcp:host:65535', 'tcp:[::1]:1', 'unix:a', `unix:${fits}`]) {
    it(`is parsed and formatted unchanged: ${text.slice(0, 20)}`, () => {
      assert.equal(formatUri(parseUri(text)), text)
    })
  }

  for (const text of ['', 'tcp:', 'tcp:host', 'tcp:host:65536', 'unix:', 'exec:cat', 'unix:a\0b']) {
    it(`is refused if it is invalid: ${JSON.stringify(text)}`, () => {
      assert.throws(() => parseUri(text), { code: 'ERR_INVALID_URI' })
    })
  }
})

describe('the path of a unix socket that the kernel would truncate', () => {
  const uri = `unix:${tooLong}`

  it('is counted in bytes, not in characters', () => {
    assert.equal(parseUri(`unix:${'ä'.repeat(53)}`).type, 'unix')
    assert.throws(() => parseUri(`unix:${'ä'.repeat(54)}`), refused)
  })

  it('is refused by a source, even if a socket listens on the truncated path', async () => {
    const folder = await temporaryFolder()
    const prefix = `${folder}/`.padEnd(107, 'p')
    const server = net.createServer().listen(prefix)
    cleanups.add(() => server.close())
    await once(server, 'listening')
    const connections: net.Socket[] = []
    server.on('connection', (socket) => connections.push(socket.on('error', () => undefined)))
    cleanups.add(() => connections.forEach((socket) => socket.destroy()))
    const longer = `unix:${prefix}y`
    assert.throws(() => Source.migrate(new TestMachine(), { uri: longer }), refused)
    assert.equal(connections.length, 0)
  })

  it('is refused by every end that listens', async () => {
    const monitor = await monitorOver()
    const directory = `${await temporaryFolder()}/vm`
    await assert.rejects(Destination.listen(new TestMachine(), { uri }), refused)
    await assert.rejects(Park.listen({ uri, directory }), refused)
    await assert.rejects(QmpServer.listen(guestTarget(monitor), uri), refused)
    await assert.rejects(serveUnix(new MonitorSession(monitor, 'text'), tooLong), refused)
    await assert.rejects(LinkProxy.listen(uri), refused)
  })

  for (const args of [
    ['guest', '--monitor', uri],
    ['guest', '--qmp', uri],
    ['guest', '--incoming', uri],
    ['park', '--to', 'nowhere', uri],
    ['park', '--to', 'nowhere', 'tcp::0', '--qmp', uri],
    ['resume', 'nowhere', uri],
    ['resume', 'nowhere', 'tcp::0', '--qmp', uri],
  ]) {
    it(`is refused before the command starts: ${args.slice(0, -1).join(' ')}`, async () => {
      const { status, stderr } = await runCli(args)
      assert.equal(status, 1)
      assert.match(stderr, refused.message)
    })
  }
})

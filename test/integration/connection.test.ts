/** Connections that fail, are reset or are never made, and URIs that are refused. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import net from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Destination } from '../../src/destination/destination.js'
import type { PostcopyError } from '../../src/errors.js'
import { Source } from '../../src/source/source.js'
import { cleanups } from '../support/cleanup.js'
import { machines } from '../support/machine-pair.js'
import { ended, listenFor, migrateTo, statesOf } from '../support/migration.js'

describe('a connection', () => {
  it('that no destination accepts fails the migration, with the guest running', async () => {
    const { here } = machines()
    const source = migrateTo('tcp:127.0.0.1:1', here)
    const states = statesOf(source)
    await assert.rejects(source.done, {
      code: 'ECONNREFUSED',
      message: /cannot connect to tcp:127.0.0.1:1: .*is a destination listening there/,
    })
    assert.deepEqual(states, ['none', 'setup', 'failed'])
    assert.deepEqual([here.running, here.stops], [true, 0])
  })

  it('to a missing socket fails', async () => {
    const { here } = machines()
    const source = migrateTo(`unix:${join(tmpdir(), 'postcopy-no-such.sock')}`, here)
    await assert.rejects(source.done, { code: 'ENOENT' })
  })

  it('that is not answered in time fails', async () => {
    const { here } = machines()
    // TEST-NET-1: no host answers, and some networks report that at once.
    const source = migrateTo('tcp:192.0.2.1:4444', here, { parameters: { 'x-timeout': 50 } })
    await ended(source)
    assert.equal(source.state, 'failed')
    assert.match(source.error?.code ?? '', /^(ETIMEDOUT|E(NET|HOST)UNREACH|ECONNREFUSED|EACCES)$/)
    assert.equal(here.running, true)
  })

  it('cannot be accepted on a port that is in use', async () => {
    const { there } = machines()
    const server = net.createServer().listen(0, '127.0.0.1')
    cleanups.add(() => server.close())
    await once(server, 'listening')
    const address = server.address()
    assert(typeof address === 'object' && address !== null)
    await assert.rejects(
      Destination.listen(there, { uri: `tcp:127.0.0.1:${String(address.port)}` }),
      {
        code: 'EADDRINUSE',
      },
    )
  })

  it('with an invalid URI is refused', async () => {
    const { here, there } = machines()
    assert.throws(() => Source.migrate(here, { uri: 'ftp:host' }), { code: 'ERR_INVALID_URI' })
    await assert.rejects(Destination.listen(there, { uri: 'tcp:h:70000' }), {
      code: 'ERR_INVALID_URI',
    })
  })

  it('that another process resets at once does no harm', async () => {
    const { there } = machines()
    const destination = await listenFor(there)
    const port = Number(destination.uri.split(':').pop())
    const socket = net.connect(port, '127.0.0.1')
    await once(socket, 'connect')
    const refused = once(destination, 'refused')
    socket.resetAndDestroy()
    const [{ code }] = (await refused) as [PostcopyError]
    assert.match(code, /^(ECONNRESET|ERR_CONNECTION_CLOSED)$/)
    assert.equal(destination.state, 'setup')
  })

  it('that is never made can be cancelled', async () => {
    const { there } = machines()
    const destination = await listenFor(there)
    assert.equal(destination.state, 'setup')
    await destination.close()
    await assert.rejects(once(net.connect(Number(destination.uri.split(':').pop())), 'connect'))
  })
})

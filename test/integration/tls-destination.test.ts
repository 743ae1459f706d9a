/** The connections that a destination with TLS rejects; it then still accepts the right source. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import net from 'node:net'
import { join } from 'node:path'
import tls, { type ConnectionOptions } from 'node:tls'
import { MULTIFD_MAGIC, encode } from '../../src/stream/index.js'
import { temporaryFolder } from '../cli/support.js'
import { type Authority, makeCredentials, tlsFiles } from '../support/certificates.js'
import { cleanups } from '../support/cleanup.js'
import { portOf } from '../support/fake-peer.js'
import { listenFor } from '../support/migration.js'
import { requires } from '../support/requires.js'
import { TestMachine } from '../support/test-machine.js'
import {
  LOOPBACK,
  assertStillOpen,
  awaiting,
  closed,
  knock,
  knockInClear,
  nextRefusal,
} from '../support/tls-destination.js'

describe('a destination with TLS keeps listening, and rejects', function () {
  before(function () {
    requires(this, 'openssl')
  })

  interface Stranger {
    readonly who: string
    /** Client files with a defect. */
    readonly files: (folder: string, authority: Authority) => ConnectionOptions
    readonly message: RegExp
    readonly hears?: string
  }

  const clientOf = (directory: string, issue: () => void): ConnectionOptions => {
    issue()
    return tlsFiles(directory, 'client')
  }
  const strangers: readonly Stranger[] = [
    {
      who: 'a client without a certificate',
      files: () => ({}),
      message:
        /^tcp:127\.0\.0\.1:\d+ sent no certificate, but one is required: set tls-creds there$/,
      hears: 'ERR_SSL_TLSV13_ALERT_CERTIFICATE_REQUIRED',
    },
    {
      who: 'a client of another authority',
      files: (folder) => tlsFiles(makeCredentials(folder, 'foreign').directory, 'client'),
      message: /is not accepted: (UNABLE_TO_GET_ISSUER_CERT|UNABLE_TO_VERIFY_LEAF|SELF_SIGNED)/,
    },
    {
      who: 'a client whose certificate has expired',
      files: (folder, authority) =>
        clientOf(join(folder, 'old'), () =>
          authority.issue(join(folder, 'old'), 'client', { days: -1 }),
        ),
      message: /is not accepted: CERT_HAS_EXPIRED/,
    },
    {
      who: 'a client whose certificate is for servers',
      files: (folder, authority) =>
        clientOf(join(folder, 'other'), () =>
          authority.issue(join(folder, 'other'), 'client', { extendedKeyUsage: 'serverAuth' }),
        ),
      message: /is not accepted: INVALID_PURPOSE/,
    },
  ]
  for (const { who, files, message, hears } of strangers) {
    it(who, async () => {
      const { destination, folder, authority, there, parameters } = await awaiting()
      const refusal = nextRefusal(destination)
      const heard = await knock(destination.uri, files(folder, authority))
      const error = await refusal
      assert.equal(error.code, 'ERR_TLS_CERTIFICATE', error.message)
      assert.match(error.message, message)
      if (hears !== undefined) assert.equal(heard, hears)
      await assertStillOpen(destination, there, { parameters })
    })
  }

  it('a source whose certificate is revoked', async () => {
    const folder = await temporaryFolder()
    const { directory, authority } = makeCredentials(folder)
    const good = join(folder, 'good')
    authority.issue(good, 'client')
    authority.revoke(directory, 'client')
    const there = new TestMachine()
    const destination = await listenFor(there, { parameters: { 'tls-creds': directory } })
    const refusal = nextRefusal(destination)
    await knock(destination.uri, tlsFiles(directory, 'client'))
    assert.match((await refusal).message, /is not accepted: CERT_REVOKED/)
    await assertStillOpen(destination, there, { parameters: { 'tls-creds': good } })
  })

  const clear: readonly (readonly [string, Uint8Array, string])[] = [
    ['a source without TLS', Buffer.from('QEVM\0\0\0\x03', 'latin1'), 'ERR_TLS_EXPECTED'],
    ['a preempt channel without TLS', new Uint8Array(8), 'ERR_TLS_EXPECTED'],
    ['a client that closes without sending anything', new Uint8Array(0), 'ERR_TLS_HANDSHAKE'],
  ]
  for (const [who, bytes, code] of clear) {
    it(who, async () => {
      const { destination, there, parameters } = await awaiting()
      const refusal = nextRefusal(destination)
      await knockInClear(destination.uri, bytes)
      assert.equal((await refusal).code, code)
      await assertStillOpen(destination, there, { parameters })
    })
  }

  it('a silent connection after x-handshake-timeout, without delaying others', async () => {
    const { destination, there, parameters } = await awaiting({
      parameters: { 'x-handshake-timeout': 1000 },
    })
    const refusal = nextRefusal(destination)
    const silent = net.connect(portOf(destination.uri), LOOPBACK)
    cleanups.add(() => silent.destroy())
    await once(silent, 'connect')
    const error = await refusal
    assert.equal(error.code, 'ERR_TLS_HANDSHAKE')
    assert.match(error.message, /the handshake timed out/)
    const another = net.connect(portOf(destination.uri), LOOPBACK)
    cleanups.add(() => another.destroy())
    await once(another, 'connect')
    await assertStillOpen(destination, there, { parameters })
  })

  it('no silent connection if x-handshake-timeout is 0', async () => {
    const { destination, there, parameters } = await awaiting({
      parameters: { 'x-handshake-timeout': 0 },
    })
    const refused: string[] = []
    destination.on('refused', ({ code }) => refused.push(code))
    const silent = net.connect(portOf(destination.uri), LOOPBACK)
    cleanups.add(() => silent.destroy())
    await once(silent, 'connect')
    await knockInClear(destination.uri, new Uint8Array(8))
    await assertStillOpen(destination, there, { parameters })
    assert.deepEqual(refused, ['ERR_TLS_EXPECTED'])
  })

  it('a connection that begins as a multifd channel and sends more than fits the buffer', async () => {
    const { directory, destination, there, parameters } = await awaiting()
    const refusal = nextRefusal(destination)
    const socket = tls.connect({
      host: LOOPBACK,
      port: portOf(destination.uri),
      rejectUnauthorized: false,
      ...tlsFiles(directory, 'client'),
    })
    cleanups.add(() => socket.destroy())
    socket.on('error', () => undefined)
    socket.write(encode((out) => out.u32(MULTIFD_MAGIC)))
    socket.write(Buffer.alloc(8 * 2 ** 20))
    const error = await refusal
    assert.equal(error.code, 'ERR_CONNECTION_STRANGER')
    assert.match(error.message, /multifd/)
    await closed(socket)
    await assertStillOpen(destination, there, { parameters })
  })

  it('many silent connections', async () => {
    const { destination, there, parameters } = await awaiting()
    const refusal = nextRefusal(destination)
    for (let count = 0; count < 40; count += 1) {
      const silent = net.connect(portOf(destination.uri), LOOPBACK)
      silent.on('error', () => undefined)
      cleanups.add(() => silent.destroy())
    }
    // Before any timeout: the first ones are dropped, because there are
    // more than x-max-connections.
    assert.equal((await refusal).code, 'ERR_TLS_HANDSHAKE')
    await assertStillOpen(destination, there, { parameters })
  })
})

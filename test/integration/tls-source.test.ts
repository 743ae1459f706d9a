/** The destinations that a source rejects because of TLS; its guest continues. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { appendFileSync, readFileSync } from 'node:fs'
import net from 'node:net'
import { join } from 'node:path'
import tls from 'node:tls'
import type { PostcopyError } from '../../src/errors.js'
import type { MigrationOptions, Parameters } from '../../src/migration/options.js'
import { temporaryFolder } from '../cli/support.js'
import { Authority, makeCredentials, tlsFiles } from '../support/certificates.js'
import { cleanups } from '../support/cleanup.js'
import { listenFor, migrateTo, postcopy } from '../support/migration.js'
import { requires } from '../support/requires.js'
import { TestMachine } from '../support/test-machine.js'
import {
  LOOPBACK,
  assertStillOpen,
  awaiting,
  filled,
  nextRefusal,
} from '../support/tls-destination.js'

/** A server with a given certificate; it accepts every connection. */
async function impostor(directory: string): Promise<string> {
  const { cert, key } = tlsFiles(directory, 'server')
  const server = tls.createServer({ cert, key })
  server.on('secureConnection', (socket) => socket.on('error', () => undefined).resume())
  server.listen(0, LOOPBACK)
  await once(server, 'listening')
  cleanups.add(() => server.close())
  return `tcp:${LOOPBACK}:${(server.address() as net.AddressInfo).port}`
}

/** The migration fails with this code, and the guest continues here. */
async function assertStays(
  uri: string,
  parameters: Partial<Parameters>,
  code: string,
  options: MigrationOptions & { postcopyAtOnce?: boolean } = {},
): Promise<PostcopyError> {
  const here = filled()
  const source = migrateTo(uri, here, { ...options, parameters })
  const reason = await source.done.then(
    () => assert.fail('completed'),
    (error: unknown) => error as PostcopyError,
  )
  assert.equal(reason.code, code, reason.message)
  assert.equal(source.state, 'failed')
  assert.equal(here.running, true)
  return reason
}

describe('a source with TLS keeps its guest if the destination', function () {
  before(function () {
    requires(this, 'openssl')
  })

  it('has the certificate of another authority', async () => {
    const folder = await temporaryFolder()
    const { directory } = makeCredentials(folder)
    const uri = await impostor(makeCredentials(folder, 'foreign').directory)
    const error = await assertStays(uri, { 'tls-creds': directory }, 'ERR_TLS_CERTIFICATE')
    assert.match(error.message, /the certificate of tcp:.* is not accepted/)
  })

  it('has a certificate that has expired', async () => {
    const folder = await temporaryFolder()
    const { directory, authority } = makeCredentials(folder)
    authority.issue(join(folder, 'old'), 'server', { days: -1 })
    const uri = await impostor(join(folder, 'old'))
    const error = await assertStays(uri, { 'tls-creds': directory }, 'ERR_TLS_CERTIFICATE')
    assert.match(error.message, /certificate has expired/)
  })

  it('has a certificate with another name, until tls-hostname names it', async () => {
    const folder = await temporaryFolder()
    const { directory, authority } = makeCredentials(folder)
    authority.issue(directory, 'server', { subjectAltName: 'DNS:there.example' })
    const parameters = { 'tls-creds': directory }
    const there = new TestMachine()
    const destination = await listenFor(there, { parameters })
    const refusal = nextRefusal(destination)
    const error = await assertStays(destination.uri, parameters, 'ERR_TLS_CERTIFICATE')
    assert.match(error.message, /127\.0\.0\.1 is not in the cert's list/)
    // The source may close before the handshake of the destination is over, or right after it.
    assert.match((await refusal).code, /^ERR_(CONNECTION_CLOSED|TLS_HANDSHAKE)$/)
    await assertStillOpen(destination, there, {
      parameters: { ...parameters, 'tls-hostname': 'there.example' },
    })
  })

  for (const postcopyAtOnce of [false, true]) {
    const when = postcopyAtOnce ? 'in postcopy from the start' : 'in precopy'
    it(`does not accept its certificate, ${when}`, async () => {
      const { destination, folder, directory, there, parameters } = await awaiting({
        capabilities: postcopyAtOnce ? postcopy : {},
      })
      // The source accepts the destination's certificate, but its own is
      // from an unknown authority.
      const mixed = join(folder, 'mixed')
      new Authority(folder, 'other').issue(mixed, 'client')
      appendFileSync(join(mixed, 'ca-cert.pem'), readFileSync(join(directory, 'ca-cert.pem')))
      const refusal = nextRefusal(destination)
      await assertStays(destination.uri, { 'tls-creds': mixed }, 'ERR_TLS_REFUSED', {
        capabilities: postcopyAtOnce ? postcopy : {},
        postcopyAtOnce,
      })
      assert.equal((await refusal).code, 'ERR_TLS_CERTIFICATE')
      await assertStillOpen(destination, there, {
        parameters,
        capabilities: postcopyAtOnce ? postcopy : {},
      })
    })
  }

  it('does not use TLS, which both ends report', async () => {
    const { directory } = makeCredentials(await temporaryFolder())
    const there = new TestMachine()
    const destination = await listenFor(there)
    const refusal = nextRefusal(destination)
    const parameters = { 'tls-creds': directory }
    const error = await assertStays(destination.uri, parameters, 'ERR_TLS_HANDSHAKE')
    assert.match(error.message, /are tls-creds set there too/)
    assert.equal((await refusal).code, 'ERR_TLS_UNEXPECTED')
    await assertStillOpen(destination, there, {})
  })

  it('uses another protocol', async () => {
    const { directory } = makeCredentials(await temporaryFolder())
    const server = net.createServer((socket) => {
      socket.on('error', () => undefined).end('220 welcome\r\n')
    })
    server.listen(0, LOOPBACK)
    await once(server, 'listening')
    cleanups.add(() => server.close())
    const uri = `tcp:${LOOPBACK}:${(server.address() as net.AddressInfo).port}`
    await assertStays(uri, { 'tls-creds': directory }, 'ERR_TLS_EXPECTED')
  })

  it('does not answer, after x-timeout', async () => {
    const { directory } = makeCredentials(await temporaryFolder())
    const server = net.createServer((socket) => {
      cleanups.add(() => socket.destroy())
    })
    server.listen(0, LOOPBACK)
    await once(server, 'listening')
    cleanups.add(() => server.close())
    const uri = `tcp:${LOOPBACK}:${(server.address() as net.AddressInfo).port}`
    const parameters = { 'tls-creds': directory, 'x-timeout': 300 }
    const error = await assertStays(uri, parameters, 'ERR_TLS_HANDSHAKE')
    assert.match(error.message, /no answer within 300 ms/)
  })
})

describe('a source without TLS', function () {
  before(function () {
    requires(this, 'openssl')
  })

  it('keeps its guest if the destination has TLS, which keeps listening', async () => {
    const { destination, there, parameters } = await awaiting()
    const refusal = nextRefusal(destination)
    const capabilities = { 'return-path': true }
    const error = await assertStays(destination.uri, {}, 'ERR_CONNECTION_CLOSED', { capabilities })
    assert.match(error.message, /and tls-creds the same on both ends/)
    assert.equal((await refusal).code, 'ERR_TLS_EXPECTED')
    await assertStillOpen(destination, there, { parameters })
  })
})

/** TLS between our two ends, and against peers that must be rejected. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { appendFileSync, readFileSync } from 'node:fs'
import net from 'node:net'
import { join } from 'node:path'
import tls, { type ConnectionOptions } from 'node:tls'
import type { Destination } from '../../src/destination/destination.js'
import type { PostcopyError } from '../../src/errors.js'
import type { MigrationOptions, Parameters } from '../../src/migration/options.js'
import { temporaryFolder } from '../cli/support.js'
import { eventually } from '../guest/support.js'
import { Authority, makeCredentials, tlsFiles } from '../support/certificates.js'
import { cleanups } from '../support/cleanup.js'
import { portOf } from '../support/fake-peer.js'
import {
  codeOf,
  ended,
  guestPair,
  listenFor,
  migratePair,
  migrateTo,
  postcopy,
  reached,
  startPair,
  statesOf,
} from '../support/migration.js'
import { requires } from '../support/requires.js'
import { MULTIFD_MAGIC, encode } from '../../src/stream/index.js'
import { TestMachine } from '../support/test-machine.js'

const LOOPBACK = '127.0.0.1'

function filled(): TestMachine {
  const machine = new TestMachine()
  machine.fill()
  machine.start()
  return machine
}

/** The next connection that is rejected. */
async function nextRefusal(destination: Destination): Promise<PostcopyError> {
  const [error] = (await once(destination, 'refused')) as [PostcopyError]
  return error
}

/**
 * Records the bytes of all connections in both directions, as an observer on the network would.
 */
async function onlooker(target: string): Promise<{ uri: string; seen: () => Buffer }> {
  const pieces: Buffer[] = []
  const server = net.createServer((source) => {
    const destination = net.connect(portOf(target), LOOPBACK)
    for (const socket of [source, destination]) {
      socket.on('error', () => undefined).on('data', (bytes: Buffer) => pieces.push(bytes))
      cleanups.add(() => socket.destroy())
    }
    source.pipe(destination).pipe(source)
  })
  server.listen(0, LOOPBACK)
  await once(server, 'listening')
  cleanups.add(() => server.close())
  const address = server.address() as net.AddressInfo
  return { uri: `tcp:${LOOPBACK}:${address.port}`, seen: () => Buffer.concat(pieces) }
}

/** Connects as a stranger, and returns the result: an error's code, or nothing. */
async function knock(uri: string, options: ConnectionOptions): Promise<string> {
  const socket = tls.connect({
    host: LOOPBACK,
    port: portOf(uri),
    rejectUnauthorized: false,
    ...options,
  })
  let code = ''
  socket.on('error', (error: NodeJS.ErrnoException) => {
    code = error.code ?? ''
  })
  socket.resume()
  await closed(socket)
  return code
}

/** Sends `bytes` in plaintext. */
async function knockInClear(uri: string, bytes: Uint8Array): Promise<void> {
  const socket = net.connect(portOf(uri), LOOPBACK)
  socket.on('error', () => undefined)
  await once(socket, 'connect')
  socket.end(bytes)
  socket.resume()
  await closed(socket)
}

/** Resolves when it has closed, with or without an error. */
function closed(socket: net.Socket): Promise<void> {
  return new Promise((resolve) => {
    socket.once('close', () => resolve())
  })
}

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

/** Credentials, and a machine that listens with them. */
async function awaiting(options: MigrationOptions = {}) {
  const folder = await temporaryFolder()
  const { directory, authority } = makeCredentials(folder)
  const parameters = { 'tls-creds': directory, ...options.parameters }
  const there = new TestMachine()
  const destination = await listenFor(there, { ...options, parameters })
  return { folder, directory, authority, parameters, there, destination }
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

/** The right source is still accepted. */
async function assertStillOpen(
  destination: Destination,
  there: TestMachine,
  options: MigrationOptions,
): Promise<void> {
  assert.equal(destination.state, 'setup')
  const here = filled()
  const source = migrateTo(destination.uri, here, options)
  await Promise.all([source.done, destination.done])
  assert(here.content('ram').equals(there.content('ram')))
}

describe('TLS', function () {
  before(function () {
    requires(this, 'openssl')
  })

  const ways: readonly (readonly [string, MigrationOptions['capabilities'], boolean])[] = [
    ['by precopy', {}, false],
    ['by postcopy', postcopy, true],
    ['by postcopy with the preempt channel', { ...postcopy, 'postcopy-preempt': true }, true],
  ]
  for (const [way, capabilities = {}, now] of ways) {
    it(`protects the migration of a running guest ${way}`, async () => {
      const { directory } = makeCredentials(await temporaryFolder())
      const { here, there } = await guestPair({
        ram: '16M',
        vcpus: 2,
        workload: 'random:writes=30',
      })
      here.start()
      const parameters = { 'tls-creds': directory, 'max-bandwidth': 0 }
      await migratePair(here, there, { capabilities, parameters, now })
      await there.stop()
      assert.equal((await there.verify()).verified, true)
    })
  }

  it('protects a migration over a unix socket, with tls-hostname', async () => {
    const folder = await temporaryFolder()
    const { directory } = makeCredentials(folder)
    const parameters = { 'tls-creds': directory, 'tls-hostname': 'localhost' }
    const uri = `unix:${join(folder, 'socket')}`
    const { here, there } = await migratePair(filled(), new TestMachine(), {
      parameters,
      destination: { uri },
    })
    assert(here.content('ram').equals(there.content('ram')))
  })

  it('hides the guest from an observer of the network', async () => {
    const { destination, there, parameters } = await awaiting()
    const plain = await listenFor(new TestMachine())
    const [secret, open] = await Promise.all([destination, plain].map(({ uri }) => onlooker(uri)))
    assert(secret !== undefined && open !== undefined)
    const here = filled()
    const page = here.content('ram').subarray(4096, 4096 + 64)
    await migrateTo(secret.uri, here, { parameters }).done
    await migrateTo(open.uri, filled()).done
    await Promise.all([destination.done, plain.done])
    for (const text of [page, Buffer.from('QEVM'), Buffer.from('vram')]) {
      assert(open.seen().includes(text), 'without TLS it is visible')
      assert(!secret.seen().includes(text))
    }
    assert(here.content('ram').equals(there.content('ram')))
  })

  it('is version 1.3 only', async () => {
    const { destination, directory, there, parameters } = await awaiting()
    const refusal = nextRefusal(destination)
    const old = { minVersion: 'TLSv1.2', maxVersion: 'TLSv1.2' } as const
    const heard = await knock(destination.uri, { ...tlsFiles(directory, 'client'), ...old })
    assert.equal(heard, 'ERR_SSL_TLSV1_ALERT_PROTOCOL_VERSION')
    assert.equal((await refusal).code, 'ERR_TLS_HANDSHAKE')
    await assertStillOpen(destination, there, { parameters })
  })
})

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

describe('recovery with TLS', function () {
  before(function () {
    requires(this, 'openssl')
  })

  const slow = { 'max-postcopy-bandwidth': 20 * 2 ** 20 }

  /** In postcopy, and paused on both ends. */
  async function pausedPair(directory: string) {
    const guests = await guestPair({ ram: '8M', vcpus: 2, workload: 'random:writes=50' })
    guests.here.start()
    const parameters = { ...slow, 'tls-creds': directory }
    const pair = await startPair(guests.here, guests.there, { capabilities: postcopy, parameters })
    pair.source.startPostcopy()
    const ends = [pair.source, pair.destination]
    await Promise.all(ends.map((end) => reached(end, 'postcopy-active')))
    pair.source.pause()
    await Promise.all(ends.map((end) => ended(end)))
    return pair
  }

  it('continues with certificates that were renewed meanwhile, also in another directory', async () => {
    const folder = await temporaryFolder()
    const { directory } = makeCredentials(folder)
    const { source, destination, there } = await pausedPair(directory)
    const renewed = makeCredentials(folder, 'renewed')
    destination.setParameters({ 'tls-creds': renewed.directory })
    source.setParameters({ 'tls-creds': renewed.directory })
    await source.recover(await destination.recover())
    await Promise.all([source.done, destination.done])
    await there.stop()
    assert.equal((await there.verify()).verified, true)
  })

  it('stays paused after invalid files, strangers, and a peer of another authority', async () => {
    const folder = await temporaryFolder()
    const { directory } = makeCredentials(folder)
    const { source, destination, there } = await pausedPair(directory)
    for (const end of [source, destination]) {
      end.setParameters({ 'tls-creds': join(folder, 'nowhere') })
      await assert.rejects(end.recover(), { code: 'ERR_TLS_CREDENTIALS' })
      assert.equal(end.state, 'postcopy-paused')
      end.setParameters({ 'tls-creds': directory })
    }
    const uri = await destination.recover()
    const states = statesOf(destination)
    const refusals: string[] = []
    destination.on('refused', ({ code }) => refusals.push(code))
    await knockInClear(uri, Buffer.from('QEVM\0\0\0\x03', 'latin1'))
    source.setParameters({ 'tls-creds': makeCredentials(folder, 'foreign').directory })
    await source.recover(uri)
    await reached(source, 'postcopy-paused')
    assert.equal(codeOf(source), 'ERR_TLS_CERTIFICATE')
    source.setParameters({ 'tls-creds': '' })
    await source.recover(uri)
    await ended(source)
    assert.equal(source.state, 'postcopy-paused')
    assert.deepEqual(states, ['postcopy-recover-setup'], 'it waits for the right one')
    source.setParameters({ 'tls-creds': directory })
    await source.recover(uri)
    await Promise.all([source.done, destination.done])
    await eventually('each of them was rejected', () => refusals.length === 3)
    assert.equal(refusals[0], 'ERR_TLS_EXPECTED')
    await there.stop()
    assert.equal((await there.verify()).verified, true)
  })
})

/** A migration with TLS between our two ends, and what an observer of the network sees. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import net from 'node:net'
import { join } from 'node:path'
import type { MigrationOptions } from '../../src/migration/options.js'
import { temporaryFolder } from '../cli/support.js'
import { makeCredentials, tlsFiles } from '../support/certificates.js'
import { cleanups } from '../support/cleanup.js'
import { portOf } from '../support/fake-peer.js'
import { guestPair, listenFor, migratePair, migrateTo, postcopy } from '../support/migration.js'
import { requires } from '../support/requires.js'
import { TestMachine } from '../support/test-machine.js'
import {
  LOOPBACK,
  assertStillOpen,
  awaiting,
  filled,
  knock,
  nextRefusal,
} from '../support/tls-destination.js'

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
        workload: 'random:writes=30,rate=50000',
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

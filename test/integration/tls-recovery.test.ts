/** The recovery of a paused postcopy with TLS: renewed certificates, and peers that are rejected. */
import assert from 'node:assert/strict'
import { join } from 'node:path'
import { temporaryFolder } from '../cli/support.js'
import { eventually } from '../guest/support.js'
import { makeCredentials } from '../support/certificates.js'
import {
  codeOf,
  ended,
  guestPair,
  postcopy,
  reached,
  startPair,
  statesOf,
} from '../support/migration.js'
import { requires } from '../support/requires.js'
import { knockInClear } from '../support/tls-destination.js'

describe('recovery with TLS', function () {
  before(function () {
    requires(this, 'openssl')
  })

  const slow = { 'max-postcopy-bandwidth': 20 * 2 ** 20 }

  /** In postcopy, and paused on both ends. */
  async function pausedPair(directory: string) {
    const guests = await guestPair({ ram: '8M', vcpus: 2, workload: 'random:writes=50,rate=50000' })
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

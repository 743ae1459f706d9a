/**
 * TLS with a real QEMU, in both roles: its `tls-creds-x509` and our `tls-creds` on one directory.
 */
import assert from 'node:assert/strict'
import { appendFileSync, existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { resume } from '../../../src/park/index.js'
import { temporaryFolder } from '../../cli/support.js'
import { makeCredentials } from '../../support/certificates.js'
import { cleanups } from '../../support/cleanup.js'
import { requires } from '../../support/requires.js'
import { Qemu } from './qemu.js'
import { counts, countingPc, listen, openParked } from './support.js'

function credentials(directory: string, endpoint: 'server' | 'client'): string[] {
  const object = `tls-creds-x509,id=tls0,dir=${directory},endpoint=${endpoint},verify-peer=on`
  return ['-object', object]
}

async function useTls(qemu: Qemu): Promise<void> {
  await qemu.execute('migrate-set-parameters', { 'tls-creds': 'tls0' })
}

interface Way {
  readonly title: string
  readonly capabilities: readonly string[]
  readonly isSwitched: boolean
}

const ways: readonly Way[] = [
  { title: 'by precopy', capabilities: ['return-path'], isSwitched: false },
  { title: 'by postcopy', capabilities: ['postcopy-ram'], isSwitched: true },
  {
    title: 'by postcopy with the preempt channel',
    capabilities: ['postcopy-ram', 'postcopy-preempt'],
    isSwitched: true,
  },
]

describe('TLS with QEMU', function () {
  this.timeout(120_000)
  before(function () {
    requires(this, 'qemu', 'openssl')
  })

  for (const { title, capabilities, isSwitched } of ways) {
    it(`parks a VM ${title}, and resumes it in another QEMU`, async function () {
      requires(this, 'qemuPostcopy')
      const folder = await temporaryFolder()
      const { directory: creds } = makeCredentials(folder)
      const parameters = { 'tls-creds': creds }
      const directory = join(folder, 'vm')
      const source = await Qemu.start(folder, [
        ...countingPc(folder),
        ...credentials(creds, 'client'),
      ])
      await counts(source)
      await source.enable(...capabilities)
      await useTls(source)
      // So that precopy ends even on a slow host.
      await source.limit({ 'max-bandwidth': 0, 'downtime-limit': 60_000 })
      const park = await listen({ directory, parameters })
      await source.execute('migrate', { uri: park.uri })
      if (isSwitched) await source.execute('migrate-start-postcopy')
      await park.done
      assert.equal(await source.reached('completed', 'failed'), 'completed')
      await source.kill()

      const args = [...countingPc(folder), ...credentials(creds, 'server'), '-incoming', 'defer']
      const qemu = await Qemu.start(folder, args)
      await qemu.enable('postcopy-ram', ...capabilities)
      await useTls(qemu)
      const uri = `unix:${join(folder, 'incoming')}`
      await qemu.execute('migrate-incoming', { uri })
      const clone = resume(openParked(directory), {
        uri,
        parameters: { ...parameters, 'tls-hostname': 'localhost' },
        capabilities: { 'postcopy-preempt': capabilities.includes('postcopy-preempt') },
      })
      cleanups.add(() => clone.close())
      await clone.done
      assert.equal(await qemu.reached('completed', 'failed'), 'completed')
      await counts(qemu)
    })
  }

  it("rejects a QEMU with another CA's certificate, then parks the right one", async () => {
    const folder = await temporaryFolder()
    const { directory: creds } = makeCredentials(folder)
    const { directory: foreign } = makeCredentials(folder, 'foreign')
    const directory = join(folder, 'vm')
    const source = await Qemu.start(folder, [
      ...countingPc(folder),
      ...credentials(foreign, 'client'),
    ])
    const park = await listen({ directory, parameters: { 'tls-creds': creds } })
    const refused: string[] = []
    park.on('refused', ({ code }) => refused.push(code))
    await counts(source)
    await source.enable('return-path')
    await useTls(source)
    await source.execute('migrate', { uri: park.uri })
    assert.equal(await source.reached('completed', 'failed'), 'failed')
    await counts(source, source.serial.length)
    // A plaintext connection is rejected, too.
    await source.execute('migrate-set-parameters', { 'tls-creds': '' })
    await source.execute('migrate', { uri: park.uri })
    assert.equal(await source.reached('completed', 'failed'), 'failed')
    assert.equal(park.state, 'setup')
    await source.execute('object-add', {
      'qom-type': 'tls-creds-x509',
      id: 'tls1',
      dir: creds,
      endpoint: 'client',
    })
    await source.execute('migrate-set-parameters', { 'tls-creds': 'tls1' })
    await source.limit({ 'max-bandwidth': 0, 'downtime-limit': 60_000 })
    await source.execute('migrate', { uri: park.uri })
    await park.done
    assert.equal(refused.length, 2)
    assert.equal(refused[1], 'ERR_TLS_EXPECTED')
  })

  it('rejects a QEMU without a return path; its guest runs on', async () => {
    const folder = await temporaryFolder()
    const { directory: creds } = makeCredentials(folder)
    const directory = join(folder, 'vm')
    const args = [...countingPc(folder), ...credentials(creds, 'client')]
    const source = await Qemu.start(folder, args)
    await counts(source)
    await useTls(source)
    const park = await listen({ directory, parameters: { 'tls-creds': creds } })
    await source.execute('migrate', { uri: park.uri })
    await assert.rejects(park.done, { code: 'ERR_PEER_CAPABILITY', message: /return-path/ })
    assert.equal(await source.reached('completed', 'failed'), 'failed')
    await counts(source, source.serial.length)
    assert(!existsSync(directory))
  })

  it('does not change a parked VM if QEMU rejects the certificate or has no TLS', async function () {
    requires(this, 'qemuPostcopy')
    const folder = await temporaryFolder()
    const { directory: creds } = makeCredentials(folder)
    const directory = join(folder, 'vm')
    const source = await Qemu.start(folder, countingPc(folder))
    await counts(source)
    const park = await listen({ directory })
    await source.limit({ 'max-bandwidth': 0, 'downtime-limit': 60_000 })
    await source.execute('migrate', { uri: park.uri })
    await park.done
    await source.kill()
    const vm = openParked(directory)
    const attempt = async (uri: string, from: string): Promise<string> => {
      const parameters = { 'tls-creds': from, 'tls-hostname': 'localhost' }
      const clone = resume(vm, { uri, parameters })
      cleanups.add(() => clone.close())
      const code = await clone.done.then(
        () => 'completed',
        (error: unknown) => (error as { code: string }).code,
      )
      assert.equal(clone.state, 'failed')
      return code
    }

    const secured = await Qemu.start(folder, [
      ...[...countingPc(folder), ...credentials(creds, 'server'), '-incoming', 'defer'],
    ])
    await secured.enable('postcopy-ram')
    await useTls(secured)
    const uri = `unix:${join(folder, 'secured')}`
    await secured.execute('migrate-incoming', { uri })
    // A server whose certificate is not accepted, and one that does not accept ours.
    const { directory: foreign } = makeCredentials(folder, 'foreign')
    assert.equal(await attempt(uri, foreign), 'ERR_TLS_CERTIFICATE')
    appendFileSync(join(foreign, 'ca-cert.pem'), readFileSync(join(creds, 'ca-cert.pem')))
    assert.equal(await attempt(uri, foreign), 'ERR_TLS_REFUSED')

    const { uri: clear } = await Qemu.incoming(folder, countingPc(folder))
    assert.equal(await attempt(clear, creds), 'ERR_TLS_HANDSHAKE')
  })
})

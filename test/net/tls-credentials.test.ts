import assert from 'node:assert/strict'
import { chmodSync, copyFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { defaultParameters } from '../../src/migration/options.js'
import {
  clientCredentials,
  readCredentials,
  serverCredentials,
} from '../../src/net/tls-credentials.js'
import { parseUri } from '../../src/net/uri.js'
import { temporaryFolder } from '../cli/support.js'
import { Authority, makeCredentials } from '../support/certificates.js'
import { cleanups } from '../support/cleanup.js'
import { requires } from '../support/requires.js'

interface Damaged {
  readonly directory: string
  readonly authority: Authority
}

const damages: readonly (readonly [string, (files: Damaged) => void, RegExp])[] = [
  [
    'no directory',
    ({ directory }) => rmSync(directory, { recursive: true }),
    /must be a directory with ca-cert\.pem, server-cert\.pem and server-key\.pem: .*ca-cert\.pem: no such file/,
  ],
  [
    'no key',
    ({ directory }) => rmSync(join(directory, 'server-key.pem')),
    /server-key\.pem: no such file/,
  ],
  [
    'a file that is not a certificate',
    ({ directory }) => writeFileSync(join(directory, 'server-cert.pem'), 'hello'),
    /server-cert\.pem has no certificate in PEM/,
  ],
  [
    'a certificate that is damaged',
    ({ directory }) => {
      const text = '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n'
      writeFileSync(join(directory, 'ca-cert.pem'), text)
    },
    /ca-cert\.pem has a certificate that cannot be read/,
  ],
  [
    'a file that is not a key',
    ({ directory }) => writeFileSync(join(directory, 'server-key.pem'), 'hello'),
    /server-key\.pem has no private key in PEM/,
  ],
  [
    'the key of another certificate',
    ({ directory }) =>
      copyFileSync(join(directory, 'client-key.pem'), join(directory, 'server-key.pem')),
    /server-key\.pem does not belong to the certificate in .*server-cert\.pem/,
  ],
  [
    'a certificate that has expired',
    ({ directory, authority }) => authority.issue(directory, 'server', { days: -1 }),
    /server-cert\.pem expired on/,
  ],
  [
    'a certificate for the other role',
    ({ directory, authority }) =>
      authority.issue(directory, 'server', { extendedKeyUsage: 'clientAuth' }),
    /server-cert\.pem is not for a TLS server/,
  ],
  [
    'the certificate of another authority',
    ({ directory }) => {
      const other = new Authority(directory, 'other')
      copyFileSync(join(other.folder, 'ca-cert.pem'), join(directory, 'ca-cert.pem'))
    },
    /server-cert\.pem is not signed by a certificate in .*ca-cert\.pem/,
  ],
  [
    'a file that is not a revocation list',
    ({ directory }) => writeFileSync(join(directory, 'ca-crl.pem'), 'hello'),
    /the files in .*creds cannot be used/,
  ],
]

describe('TLS credentials', function () {
  before(function () {
    requires(this, 'openssl')
  })

  for (const [what, damage, message] of damages) {
    it(`are refused, with the file's name, if there is ${what}`, async () => {
      const files = makeCredentials(await temporaryFolder())
      readCredentials(files.directory, 'server')
      damage(files)
      assert.throws(() => readCredentials(files.directory, 'server'), {
        code: 'ERR_TLS_CREDENTIALS',
        message,
      })
    })
  }

  it('are only those of the role', async () => {
    const folder = await temporaryFolder()
    new Authority(folder).issue(join(folder, 'client'), 'client')
    readCredentials(join(folder, 'client'), 'client')
    assert.throws(() => readCredentials(join(folder, 'client'), 'server'), /server-cert\.pem/)
  })

  it('cause one warning with advice if other users may read the key', async () => {
    const { directory } = makeCredentials(await temporaryFolder())
    const path = join(directory, 'server-key.pem')
    const warnings: string[] = []
    const note = (warning: Error): void => void warnings.push(warning.message)
    process.on('warning', note)
    cleanups.add(() => process.off('warning', note))
    const readAs = async (mode: number): Promise<void> => {
      chmodSync(path, mode)
      readCredentials(directory, 'server')
      // Node emits warnings on the next tick.
      await new Promise(setImmediate)
    }
    await readAs(0o600)
    assert.deepEqual(warnings, [])
    await readAs(0o640)
    await readAs(0o644)
    assert.equal(warnings.length, 1)
    assert.match(warnings.join(), /server-key\.pem \(mode 0640\): chmod 600 .*server-key\.pem$/)
  })

  it('have the host of the URI as the expected name, unless tls-hostname is set', async () => {
    const { directory } = makeCredentials(await temporaryFolder())
    const parameters = { ...defaultParameters, 'tls-creds': directory }
    const nameFor = (uri: string, hostname = ''): string | undefined =>
      clientCredentials({ ...parameters, 'tls-hostname': hostname }, parseUri(uri))?.hostname
    assert.equal(nameFor('tcp:example.org:1'), 'example.org')
    assert.equal(nameFor('tcp:[::1]:1'), '::1')
    assert.equal(nameFor('tcp::1'), 'localhost')
    assert.equal(nameFor('tcp:example.org:1', 'other'), 'other')
    assert.equal(nameFor('unix:/x', 'other'), 'other')
    assert.throws(() => nameFor('unix:/x'), { code: 'ERR_TLS_HOSTNAME', message: /tls-hostname/ })
  })

  it('are not read without tls-creds', () => {
    assert.equal(serverCredentials(defaultParameters), undefined)
    assert.equal(clientCredentials(defaultParameters, parseUri('unix:/x')), undefined)
  })
})

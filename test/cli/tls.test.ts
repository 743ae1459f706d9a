import assert from 'node:assert/strict'
import { join } from 'node:path'
import { makeCredentials } from '../support/certificates.js'
import { requires } from '../support/requires.js'
import { runInside } from './inside.js'
import { Cli, runCli, temporaryFolder } from './support.js'

const WARNING = /postcopy: warning: guest memory crosses the network unencrypted/g

function warnings({ stderr }: { stderr: string }): number {
  return stderr.match(WARNING)?.length ?? 0
}

describe('the warning about plaintext', () => {
  it('is printed once, on stderr, if park listens beyond loopback', async () => {
    const to = ['--to', join(await temporaryFolder(), 'vm'), '--json']
    const cli = new Cli(['park', 'tcp:0.0.0.0:0', ...to])
    await cli.seen(/warning: guest memory/)
    cli.child.kill('SIGTERM')
    const { stdout } = await cli.ended
    assert.equal(warnings(cli), 1)
    assert.equal(stdout, '')
  })

  it('is not printed on loopback, where a URI without a host listens', async () => {
    const cli = new Cli(['park', 'tcp::0', '--to', join(await temporaryFolder(), 'vm')])
    await cli.seen(/waiting for a VM on tcp:127\.0\.0\.1:\d+/)
    cli.child.kill('SIGTERM')
    await cli.ended
    assert.equal(warnings(cli), 0)
  })

  it('is printed once for any number of migrations of a guest, and stdout stays JSON', async () => {
    // Packets to this address are lost (RFC 5737).
    const away = 'migrate -d tcp:192.0.2.1:1'
    const cli = new Cli(['guest', '--ram', '8M', '--json'])
    cli.type('migrate_set_parameter x-timeout 100', away)
    await cli.seen(/"status":"failed"/)
    cli.type(away)
    await cli.seen(/"status":"failed"[^]*"status":"failed"/)
    cli.type('quit')
    const { stdout } = await cli.ended
    assert.equal(warnings(cli), 1)
    for (const line of stdout.trim().split('\n')) JSON.parse(line)
  })
})

describe('TLS on the command line', function () {
  before(function () {
    requires(this, 'openssl')
  })

  it('protects the demo', async () => {
    const { directory } = makeCredentials(await temporaryFolder())
    const size = ['--ram', '32M', '--vcpus', '1']
    const result = await runCli(['demo', ...size, '--tls-creds', directory, '--json'])
    assert.equal(result.status, 0, result.stderr)
    assert.equal((JSON.parse(result.stdout) as { verified: boolean }).verified, true)
  })

  it('can be set on a listening guest, and bad files are refused at once', async () => {
    const folder = await temporaryFolder()
    const { directory } = makeCredentials(folder)
    const there = new Cli(['guest', '--ram', '8M', '--incoming', 'tcp:0.0.0.0:0', '--json'])
    await there.seen(/LISTENING/)
    there.type(`migrate_set_parameter tls-creds ${join(folder, 'nowhere')}`)
    await there.seen(/ERR_TLS_CREDENTIALS/)
    there.type(`migrate_set_parameter tls-creds ${directory}`)
    const [, port = ''] = await there.seen(/LISTENING[^]*LISTENING.*?tcp:0\.0\.0\.0:(\d+)/)
    const here = new Cli(['guest', '--ram', '8M', '--json'])
    here.type(`migrate -d tcp:127.0.0.1:${port}`)
    await there.seen(/"event":"REFUSED","data":\{"code":"ERR_TLS_EXPECTED"/)
    await here.seen(/"failed"/)
    here.type(`migrate_set_parameter tls-creds ${directory}`)
    here.type(`migrate -d tcp:127.0.0.1:${port}`, 'info migrate_parameters')
    await there.seen(/"completed"/)
    assert.equal(warnings(there), 1, 'before it had TLS')
  })

  const refused: readonly (readonly [string, readonly string[], RegExp])[] = [
    ['a name without files', ['guest', '--tls-hostname', 'x'], /needs --tls-creds \[ERR_USAGE\]/],
    [
      'credentials for a stream from a file',
      ['park', '--from', '/dev/null', '--to', '/nowhere/vm', '--tls-creds', '/nowhere'],
      /for a URI, not for a file \[ERR_USAGE\]/,
    ],
    [
      'a directory that is not there',
      ['park', 'tcp::0', '--to', '/nowhere/vm', '--tls-creds', '/nowhere'],
      /\/nowhere\/ca-cert\.pem: no such file \[ERR_TLS_CREDENTIALS\]/,
    ],
  ]
  for (const [what, args, message] of refused) {
    it(`refuses ${what}`, async () => {
      const { status, stdout, stderr } = await runInside(args)
      assert.equal(status, 1)
      assert.equal(stdout, '')
      assert.match(stderr, message)
    })
  }
})

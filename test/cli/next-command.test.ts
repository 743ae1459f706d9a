/** Messages that name the next command. */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { nextCommand, uriForPeer } from '../../src/cli/next-command.js'
import { makeCredentials } from '../support/certificates.js'
import { cleanups } from '../support/cleanup.js'
import {
  FakeSource,
  allPages,
  discardAll,
  packageOf,
  part,
  prologue,
} from '../support/fake-peer.js'
import { requires } from '../support/requires.js'
import { TestMachine } from '../support/test-machine.js'
import { Cli, type CliResult, MAIN, temporaryFolder } from './support.js'

/** Runs a printed command in a shell. */
async function paste(command: string, folder: string): Promise<{ status: unknown; said: string }> {
  const run = `postcopy() { ${process.execPath} ${MAIN} "$@"; }; ${command}`
  const child = spawn('sh', ['-c', run], { cwd: folder, stdio: ['ignore', 'ignore', 'pipe'] })
  cleanups.add(() => child.kill('SIGKILL'))
  let said = ''
  child.stderr.on('data', (chunk: Buffer) => {
    said += chunk.toString()
  })
  const [status] = (await once(child, 'close')) as [unknown]
  return { status, said }
}

/** A park that loses its source after the switch, with all pages or none. */
async function losePark(
  uri: string,
  to: string,
  has: 'all pages' | 'no page',
): Promise<CliResult & { uri: string }> {
  const machine = new TestMachine({ blocks: { ram: 2 ** 16 } })
  const cli = new Cli(['park', uri, '--to', to])
  const [, where = ''] = await cli.seen(/waiting for a VM on (\S+)/)
  const source = await FakeSource.connect(where, machine)
  for (const bytes of [prologue(machine), discardAll(machine), packageOf(machine)]) {
    source.send(bytes)
  }
  if (has === 'all pages') source.send(part(allPages(machine)))
  await cli.seen(/receiving the other pages/)
  source.end()
  return { ...(await cli.ended), uri: where }
}

describe('the command that continues a migration', () => {
  it('has the options of the previous command', () => {
    const kept = { tlsCreds: "it's", tlsHostname: 'name', preempt: true }
    assert.equal(
      nextCommand(['resume', 'URI'], { ...kept, allowForeignDirectory: true }),
      "postcopy resume URI --tls-creds 'it'\\''s' --tls-hostname name --preempt --allow-foreign-directory",
    )
    assert.equal(nextCommand(['park'], { allowForeignDirectory: false }), 'postcopy park')
  })

  it('names HOST, for the user to fill in, when the listener is on all addresses', () => {
    for (const host of ['0.0.0.0', '[::]', '0', '[0:0::0]', '[::ffff:0.0.0.0]']) {
      assert.equal(uriForPeer(`tcp:${host}:1`), 'tcp:HOST:1')
    }
    for (const uri of ['tcp:127.0.0.1:1', 'tcp:[::1]:1', 'tcp:a:1', 'unix:0.0.0.0']) {
      assert.equal(uriForPeer(uri), uri)
    }
  })
})

describe('park that is left in postcopy', () => {
  it('names the existing directory, for any spelling of DIR', async () => {
    const folder = await temporaryFolder()
    const { stderr } = await losePark('tcp:127.0.0.1:0', `${folder}/vm/./`, 'no page')
    const [, directory = ''] = /--recover (\S+\.incomplete)/.exec(stderr) ?? []
    assert(existsSync(directory), stderr)
  })

  it('names HOST in the URI for the source if it listens on all addresses', async () => {
    const folder = await temporaryFolder()
    const { stderr, uri } = await losePark('tcp:0.0.0.0:0', join(folder, 'vm'), 'no page')
    const port = /\d+$/.exec(uri)?.[0] ?? ''
    assert.match(stderr, new RegExp(`in QEMU's monitor: migrate -r tcp:HOST:${port} `))
    assert.match(stderr, new RegExp(`postcopy park ${uri} --recover`))
  })

  it('explains what can be done if its source has ended and pages are missing', async () => {
    const folder = await temporaryFolder()
    const [some, none] = [
      await losePark('tcp:127.0.0.1:0', join(folder, 'some'), 'no page'),
      await losePark('tcp:127.0.0.1:0', join(folder, 'none'), 'all pages'),
    ]
    const gone =
      /If that QEMU is gone, the other pages are lost with it: nothing can be resumed, and \S+some\.incomplete may be removed/
    assert.match(some.stderr, gone)
    assert.doesNotMatch(none.stderr, /is gone|may be removed/)
  })

  it('names the commands again after a recovery that was stopped before its source connected', async () => {
    const folder = await temporaryFolder()
    await losePark('tcp:127.0.0.1:0', join(folder, 'vm'), 'no page')
    const directory = join(folder, 'vm.incomplete')
    const cli = new Cli(['park', `unix:${folder}/again`, '--recover', directory])
    await cli.seen(/waiting for a VM/)
    cli.child.kill('SIGINT')
    const { stderr } = await cli.ended
    assert.match(
      stderr,
      /Otherwise continue with: postcopy park \S+again --recover \S+vm\.incomplete;/,
    )
    assert.match(stderr, /in QEMU's monitor: migrate -r unix:\S+again[ .]/)
    assert.match(stderr, /If that QEMU is gone/)
    assert(existsSync(directory))
  })

  it('names a single command, which finishes the VM, if no page is missing', async () => {
    const folder = await temporaryFolder()
    const { stderr } = await losePark('tcp:127.0.0.1:0', join(folder, 'vm'), 'all pages')
    assert.match(stderr, /no page is missing/)
    assert.doesNotMatch(stderr, /migrate -r|monitor/)
    const [, command = ''] = /To continue: (postcopy .*\.incomplete)/.exec(stderr) ?? []
    const { status, said } = await paste(command, folder)
    assert.equal(status, 0, said)
    assert(existsSync(join(folder, 'vm')))
  })
})

describe('guest --spill in postcopy', () => {
  before(function () {
    requires(this, 'openssl')
  })

  it('names a command with the options of its migration', async () => {
    const folder = await temporaryFolder()
    const { directory: credentials } = makeCredentials(folder)
    const tls = ['--tls-creds', credentials]
    const postcopy = ['--capability', 'postcopy-ram', '--capability', 'postcopy-preempt']
    const listening = ['--incoming', 'tcp:127.0.0.1:0', ...postcopy, ...tls]
    const there = new Cli(['guest', '--ram', '8M', ...listening])
    const [, uri = ''] = await there.seen(/waiting for a guest on (\S+)/)
    const spill = ['--spill', join(folder, 'owed'), '--allow-foreign-directory']
    const here = new Cli(['guest', '--ram', '8M', ...postcopy, ...spill])
    here.type(
      `migrate_set_parameter tls-creds ${credentials}`,
      'migrate_set_parameter tls-hostname localhost',
      'migrate_set_parameter max-postcopy-bandwidth 1',
      `migrate -d ${uri}`,
      'migrate_start_postcopy',
    )
    const [, command = ''] = await here.seen(/and (postcopy resume .*) continue the migration/)
    const kept = `--tls-creds ${credentials} --tls-hostname localhost --preempt --allow-foreign-directory`
    assert.equal(command, `postcopy resume --recover ${folder}/owed.incomplete URI ${kept}`)
  })
})

/** A signal to a command: its exit status, its last message, and what it leaves on the disk. */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readdirSync } from 'node:fs'
import { constants } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { Guest } from '../../src/guest/index.js'
import { Monitor } from '../../src/monitor/index.js'
import { ParkedVm } from '../../src/park/index.js'
import { Source } from '../../src/source/source.js'
import { parkedVm } from '../park/support.js'
import { cleanups } from '../support/cleanup.js'
import { QmpClient } from '../support/qmp-client.js'
import { silentListener } from '../support/silent-listener.js'
import { TestMachine } from '../support/test-machine.js'
import { Cli, MAIN, temporaryFolder } from './support.js'

const RUN_COMMAND = new URL('../../src/cli/run-command.js', import.meta.url).href

/** Queries by QMP until the package is being sent. */
async function vmIsSent(path: string): Promise<void> {
  const client = await QmpClient.connect({ path })
  for (;;) {
    const { status } = (await client.execute('query-migrate')) as { status?: string }
    if (status === 'postcopy-device') return
    await sleep(20)
  }
}

describe('a signal', () => {
  it('to resume before the destination confirms makes no claim about the guest; a second one cleans up', async () => {
    const { directory } = await parkedVm()
    const folder = await temporaryFolder()
    const { uri } = await silentListener(true)
    const cli = new Cli([
      'resume',
      directory,
      uri,
      '--json',
      '--qmp',
      `unix:${join(folder, 'qmp')}`,
    ])
    await cli.seen(/QMP on/)
    // Until the whole package is sent, the first signal cancels, which ends the process as well.
    await vmIsSent(join(folder, 'qmp'))
    cli.child.kill('SIGINT')
    await cli.seen(/whether the guest runs there is not known/)
    assert.doesNotMatch(cli.stderr, /the guest runs (at|and)/)
    cli.child.kill('SIGINT')
    const { status, stdout, stderr } = await cli.ended
    assert.equal(status, 128 + 2, stderr)
    assert.deepEqual(readdirSync(folder), [], 'no socket is left')
    const result = JSON.parse(stdout) as { status: string; error: { code: string } }
    assert.equal(result.status, 'postcopy-device')
    assert.equal(result.error.code, 'ERR_INTERRUPTED')
    assert.match(stderr, /ended by a signal before the destination answered/)
  })

  it('to resume before the switch is reported as a cancellation, not as a refusal', async () => {
    const { directory } = await parkedVm()
    const { uri, sent } = await silentListener()
    // With the preempt channel, a source waits for an answer before it hands the guest over.
    const cli = new Cli(['resume', directory, uri, '--preempt'])
    await sent
    cli.child.kill('SIGINT')
    const { status, stderr } = await cli.ended
    assert.equal(status, 128 + 2, stderr)
    assert.match(stderr, /cancelled.*\[ABORT_ERR\]/)
    assert.doesNotMatch(stderr, /refused|--page-size/)
  })

  it('that ends park during postcopy prints working commands that continue', async () => {
    const folder = await temporaryFolder()
    const directory = join(folder, "it's a vm")
    const machine = new TestMachine({ blocks: { ram: 4 * 2 ** 20 } })
    machine.fill()
    machine.start()
    const socket = `unix:${join(folder, 'migration')}`
    const cli = new Cli(['park', socket, '--to', directory, '--allow-foreign-directory'])
    await cli.seen(/waiting for a VM/)
    const source = Source.migrate(machine, {
      uri: socket,
      capabilities: { 'postcopy-ram': true },
      parameters: { 'max-postcopy-bandwidth': 100_000 },
      postcopyAtOnce: true,
    })
    cleanups.add(() => source.close())
    const paused = new Promise<void>((resolve) => {
      source.on('state', (state) => {
        if (state === 'postcopy-paused') resolve()
      })
    })
    await cli.seen(/receiving the other pages/)
    cli.child.kill('SIGTERM')
    await cli.seen(/waiting for them; a second signal stops parking/)
    cli.child.kill('SIGTERM')
    const { status, stderr } = await cli.ended
    assert.equal(status, 128 + 15, stderr)
    assert.match(stderr, /the received pages are in .*it's a vm\.incomplete/)
    const goOn =
      /Otherwise continue with: (postcopy park .*); then, in QEMU's monitor: migrate -r (\S+)/
    const [, command = '', uri = ''] = goOn.exec(stderr) ?? []
    assert.match(command, /--recover .*--allow-foreign-directory/, stderr)
    assert.equal(uri, socket)
    await paused
    const run = `postcopy() { ${process.execPath} ${MAIN} "$@"; }; ${command}`
    const recovery = spawn('sh', ['-c', run], { stdio: ['ignore', 'ignore', 'pipe'] })
    cleanups.add(() => recovery.kill('SIGKILL'))
    const ended = once(recovery, 'close')
    let said = ''
    await new Promise<void>((resolve) => {
      recovery.stderr.on('data', (chunk: Buffer) => {
        said += chunk.toString()
        if (said.includes('waiting for a VM') || said.includes('ERR_')) resolve()
      })
    })
    source.setParameters({ 'max-postcopy-bandwidth': 0 })
    await source.recover(uri)
    await source.done
    assert.deepEqual(await ended, [0, null], said)
    ParkedVm.open(directory, { verify: true }).close()
  })

  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    it(`${signal} ends a listening park with status 128 + its number and leaves nothing`, async () => {
      const folder = await temporaryFolder()
      const at = (name: string): string => join(folder, name)
      const args = [
        'park',
        `unix:${at('migration')}`,
        '--to',
        at('vm'),
        '--qmp',
        `unix:${at('qmp')}`,
      ]
      const cli = new Cli(args)
      await cli.seen(/waiting for a VM/)
      cli.child.kill(signal)
      assert.equal((await cli.ended).status, 128 + constants.signals[signal])
      assert.deepEqual(readdirSync(folder), [])
    })
  }

  it('that ends a command after an earlier signal is the one in the message and the status', async () => {
    const { directory } = await parkedVm()
    const folder = await temporaryFolder()
    const { uri } = await silentListener(true)
    const qmp = join(folder, 'qmp')
    const cli = new Cli(['resume', directory, uri, '--qmp', `unix:${qmp}`])
    await cli.seen(/QMP on/)
    await vmIsSent(qmp)
    cli.child.kill('SIGTERM')
    await cli.seen(/whether the guest runs there is not known/)
    cli.child.kill('SIGINT')
    const { status, stderr } = await cli.ended
    assert.match(stderr, /ended by SIGINT/)
    assert.equal(status, 128 + 2, stderr)
  })

  it('to a destination in precopy leaves no socket', async () => {
    const folder = await temporaryFolder()
    const at = (name: string): string => join(folder, name)
    const ram = ['--ram', '32M']
    const destination = new Cli([
      ...[
        'guest',
        ...ram,
        '--incoming',
        `unix:${at('migration')}`,
        '--monitor',
        `unix:${at('hmp')}`,
      ],
      ...['--qmp', `unix:${at('qmp')}`],
    ])
    await destination.seen(/QMP on/)
    const source = new Cli(['guest', ...ram, '--workload', 'random:writes=30,rate=50000'])
    source.type('migrate_set_parameter max-bandwidth 1M', `migrate -d unix:${at('migration')}`)
    await destination.seen(/migration \(destination\): active/)
    destination.child.kill('SIGTERM')
    const { status, stderr } = await destination.ended
    assert.equal(status, 128 + 15, stderr)
    assert.deepEqual(readdirSync(folder), [])
  })
})

describe('a signal during the start of a command', () => {
  it('waits until a step in progress is undone, and stops the command', async () => {
    // Created only after the signal has arrived.
    const script = `
      import { setImmediate as turn } from 'node:timers/promises'
      import { runCommand } from ${JSON.stringify(RUN_COMMAND)}
      const alive = setInterval(() => {}, 1000) // a signal handler does not keep a process alive
      const status = await runCommand(async ({ scope }) => {
        const made = new Promise((resolve) => {
          process.once('SIGINT', () => setImmediate(resolve, 'made'))
        })
        process.kill(process.pid, 'SIGINT')
        await scope.use(made, async () => {
          await turn()
          console.log('undone')
        })
        console.log('went on')
      })
      console.log('status', status)
      clearInterval(alive)`
    const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    cleanups.add(() => child.kill('SIGKILL'))
    const said = { stdout: '', stderr: '' }
    child.stdout.on('data', (text: Buffer) => (said.stdout += text.toString()))
    child.stderr.on('data', (text: Buffer) => (said.stderr += text.toString()))
    await once(child, 'close')
    assert.deepEqual(said, {
      stdout: 'undone\nstatus 130\n',
      stderr: 'postcopy: ended by SIGINT\n',
    })
  })

  const starting: readonly (readonly [string, readonly string[]])[] = [
    ['park', ['unix:SOCKET', '--to', 'DIR']],
    ['guest', ['--ram', '32M', '--incoming', 'unix:SOCKET', '--monitor', 'none']],
  ]
  for (const [name, args] of starting) {
    it(`leaves nothing of ${name}, and no output after the line that reports the end`, async () => {
      const folder = await temporaryFolder()
      const at = (file: string): string => join(folder, file)
      const words = args.map((word) =>
        word.replace('SOCKET', at('socket')).replace('DIR', at('vm')),
      )
      const cli = new Cli([name, ...words, '--qmp', `unix:${at('qmp')}`])
      while (!existsSync(at('qmp'))) await sleep(1)
      cli.child.kill('SIGINT')
      const { status, stderr } = await cli.ended
      assert.equal(status, 128 + 2, stderr)
      assert.deepEqual(readdirSync(folder), [])
      assert.doesNotMatch(stderr, /ended by SIGINT\n[^]/)
    })
  }

  it('that closes a monitor leaves no destination listening', async () => {
    const guest = await Guest.create({ ram: '8M', incoming: true })
    cleanups.add(() => guest.close())
    const monitor = new Monitor(guest, { incoming: true })
    const uri = `unix:${join(await temporaryFolder(), 'migration')}`
    const told: string[] = []
    monitor.on('listening', (where) => told.push(where))
    const [begun, closing] = [monitor.migrateIncoming(uri), monitor.close()]
    const late = monitor.migrateIncoming(uri)
    await assert.rejects(late, { code: 'ERR_CLOSED' })
    await Promise.all([begun, closing])
    assert.deepEqual(told, [])
    assert.equal(existsSync(uri.slice('unix:'.length)), false)
  })
})

import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs'
import net from 'node:net'
import { constants } from 'node:os'
import { join } from 'node:path'
import { setImmediate as turn, setTimeout as sleep } from 'node:timers/promises'
import { Clone } from '../../src/cli/clone.js'
import { Scope, ScopeClosed } from '../../src/cli/scope.js'
import { PostcopyError } from '../../src/errors.js'
import { Guest } from '../../src/guest/index.js'
import { Monitor } from '../../src/monitor/index.js'
import { ParkedVm, resume } from '../../src/park/index.js'
import { Source } from '../../src/source/source.js'
import { parkBytes } from '../park/support.js'
import { cleanups } from '../support/cleanup.js'
import { QmpClient } from '../support/qmp-client.js'
import { TestMachine } from '../support/test-machine.js'
import { golden } from '../stream/golden.js'
import { Cli, MAIN, runCli, temporaryFolder } from './support.js'

const RUN_COMMAND = new URL('../../src/cli/run-command.js', import.meta.url).href

const quiet = { note: (): void => undefined }

async function parkedVm() {
  const { folder, directory } = await parkBytes(golden('precopy'))
  return { folder, directory }
}

/**
 * Accepts, reads, and never answers.
 *
 * @returns its URI, and `sent`, which resolves at the first byte
 */
async function silentListener(): Promise<{ uri: string; sent: Promise<unknown> }> {
  const path = join(await temporaryFolder(), 'silent')
  const sockets = new Set<net.Socket>()
  const server = net.createServer((socket) => {
    sockets.add(socket)
    socket.on('error', () => undefined)
    socket.on('data', () => server.emit('sent'))
  })
  const sent = once(server, 'sent')
  server.listen(path)
  await once(server, 'listening')
  cleanups.add(() => {
    server.close()
    for (const socket of sockets) socket.destroy()
  })
  return { uri: `unix:${path}`, sent }
}

describe('a signal', () => {
  it('to resume before a silent destination answers makes no claim about the guest; a second one cleans up', async () => {
    const { directory } = await parkedVm()
    const folder = await temporaryFolder()
    const { uri } = await silentListener()
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
    const { uri } = await silentListener()
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

describe('a set-up that fails', () => {
  it('leaves nothing of park if QMP cannot listen, and the next park can start', async () => {
    const folder = await temporaryFolder()
    const at = (name: string): string => join(folder, name)
    const args = ['park', `unix:${at('migration')}`, '--to', at('vm')]
    const { status, stderr } = await runCli([...args, '--qmp', `unix:${at('no/such/folder')}`])
    assert.equal(status, 1)
    assert.match(stderr, /cannot listen on/)
    assert.deepEqual(readdirSync(folder), [])
    const next = new Cli(args)
    await next.seen(/waiting for a VM/)
  })

  it('leaves nothing of a guest if QMP cannot listen', async () => {
    const folder = await temporaryFolder()
    const at = (name: string): string => join(folder, name)
    const { status } = await runCli([
      ...['guest', '--ram', '8M', '--incoming', `unix:${at('migration')}`],
      ...['--monitor', `unix:${at('hmp')}`, '--qmp', `unix:${at('no/such/folder')}`],
    ])
    assert.equal(status, 1)
    assert.deepEqual(readdirSync(folder), [])
  })

  const sockets: readonly (readonly [string, readonly string[]])[] = [
    ['guest --monitor', ['guest', '--ram', '8M', '--monitor', 'unix:AT']],
    ['guest --qmp', ['guest', '--ram', '8M', '--monitor', 'none', '--qmp', 'unix:AT']],
    ['guest --incoming', ['guest', '--ram', '8M', '--incoming', 'unix:AT']],
    ['park', ['park', 'unix:AT', '--to', 'DIR']],
    ['park --qmp', ['park', 'tcp:127.0.0.1:0', '--to', 'DIR', '--qmp', 'unix:AT']],
    ['resume --qmp', ['resume', 'VM', 'URI', '--qmp', 'unix:AT']],
  ]
  for (const [title, args] of sockets) {
    for (const kind of ['file', 'directory'] as const) {
      it(`starts nothing if a ${kind} has the name of a socket: ${title}`, async () => {
        const [folder, { directory: vm }] = [await temporaryFolder(), await parkedVm()]
        const at = join(folder, 'at')
        if (kind === 'file') writeFileSync(at, 'content')
        else mkdirSync(at)
        const waiting = net.createServer().listen(join(folder, 'waiting'))
        cleanups.add(() => waiting.close())
        let connections = 0
        waiting.on('connection', (socket) => {
          connections += 1
          socket.destroy()
        })
        await once(waiting, 'listening')
        const given = { AT: at, DIR: join(folder, 'dir'), VM: vm, URI: `unix:${folder}/waiting` }
        const words = args.map((word) =>
          Object.entries(given).reduce((text, [name, value]) => text.replace(name, value), word),
        )
        const { status, stderr } = await runCli(words)
        assert.equal(status, 1, stderr)
        assert.match(stderr, /at: a file that is not a socket exists there; .* \[EADDRINUSE\]/)
        assert.doesNotMatch(stderr, /the guest runs|waiting for/)
        assert.equal(connections, 0)
        if (kind === 'file') assert.equal(readFileSync(at, 'utf8'), 'content')
        assert.deepEqual(readdirSync(folder).sort(), ['at', 'waiting'])
      })
    }
  }

  it('is undone completely, in reverse order', async () => {
    const [done, errors]: [string[], unknown[]] = [[], []]
    const scope = new Scope((error) => errors.push(error))
    scope.defer(() => done.push('first'))
    await scope.use(Promise.resolve('second'), (name) => done.push(name))
    const failure = new Error('third')
    scope.defer(() => Promise.reject(failure))
    await scope.close()
    assert.deepEqual(done, ['second', 'first'])
    assert.deepEqual(errors, [failure])
  })

  it('is undone before the scope is closed if it is still in progress', async () => {
    const done: string[] = []
    const scope = new Scope((error) => assert.fail(String(error)))
    scope.defer(() => done.push('first'))
    let make: (name: string) => void = () => undefined
    const made = new Promise<string>((resolve) => {
      make = resolve
    })
    const used = scope.use(made, async (name) => {
      await turn()
      done.push(name)
    })
    const rejected = assert.rejects(used, ScopeClosed)
    const closing = scope.close()
    make('second')
    await closing
    assert.deepEqual(done, ['second', 'first'])
    await rejected
  })

  it('is undone and awaited if it finishes after the command was stopped', async () => {
    const done: string[] = []
    const scope = new Scope((error) => assert.fail(String(error)))
    await scope.close()
    const undo = (name: string) => async (): Promise<void> => {
      await turn()
      done.push(name)
    }
    assert.throws(() => scope.defer(undo('late')), ScopeClosed)
    await assert.rejects(scope.use('later', undo('later')), ScopeClosed)
    assert.throws(() => scope.throwIfClosed(), ScopeClosed)
    await scope.close()
    assert.deepEqual(done.sort(), ['late', 'later'])
  })

  it('reports a failed step once, and does not undo it', async () => {
    const scope = new Scope((error) => assert.fail(String(error)))
    const failure = new Error('no socket')
    await assert.rejects(
      scope.use(Promise.reject(failure), () => assert.fail('closed')),
      failure,
    )
    await scope.close()
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

describe('one of several clones', () => {
  it('that has ended before it is awaited has a result', async () => {
    const { directory } = await parkedVm()
    const vm = ParkedVm.open(directory)
    cleanups.add(() => vm.close())
    const uri = `unix:${join(directory, 'nothing-listens')}`
    const source = resume(vm, { uri })
    const clone = new Clone(vm, { uri, begin: () => source, isRecovery: false }, quiet)
    cleanups.add(() => clone.close())
    await assert.rejects(source.done)
    assert.equal((await clone.result).status, 'failed')
  })

  it('that cannot start does not end the others', async () => {
    const { directory } = await parkedVm()
    const vm = ParkedVm.open(directory)
    cleanups.add(() => vm.close())
    const begin = (): never => {
      throw new PostcopyError('ERR_TEST', 'cannot begin')
    }
    const clone = new Clone(vm, { uri: 'unix:x', begin, isRecovery: false }, quiet)
    const { status, error } = await clone.result
    assert.equal(status, 'failed')
    assert.equal(error?.code, 'ERR_TEST')
    clone.finishOrCancel()
    await clone.close()
  })

  it('that cannot connect leaves the others running', async () => {
    const { directory } = await parkedVm()
    const { uri, sent } = await silentListener()
    const cli = new Cli(['resume', directory, `unix:${directory}/nothing`, uri, '--json'])
    await cli.seen(/"status":"failed"/)
    await sent
    cli.child.kill('SIGINT')
    cli.child.kill('SIGTERM')
    const { stdout, stderr } = await cli.ended
    const uris = stdout
      .trim()
      .split('\n')
      .map((line) => (JSON.parse(line) as { uri: string }).uri)
    assert.deepEqual(uris, [`unix:${directory}/nothing`, uri], stderr)
  })
})

/** Queries by QMP until the package is being sent. */
async function vmIsSent(path: string): Promise<void> {
  const client = await QmpClient.connect({ path })
  for (;;) {
    const { status } = (await client.execute('query-migrate')) as { status?: string }
    if (status === 'postcopy-device') return
    await sleep(20)
  }
}

/** A command whose set-up fails: each step that was done is undone, and nothing is left. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs'
import net from 'node:net'
import { join } from 'node:path'
import { setImmediate as turn } from 'node:timers/promises'
import { Scope, ScopeClosed } from '../../src/cli/scope.js'
import { parkedVm } from '../park/support.js'
import { cleanups } from '../support/cleanup.js'
import { runInside } from './inside.js'
import { Cli, runCli, temporaryFolder } from './support.js'

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
          word.replace(/\b(?:AT|DIR|VM|URI)\b/, (name) => given[name as keyof typeof given]),
        )
        const { status, stderr } = await runInside(words)
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

import assert from 'node:assert/strict'
import net from 'node:net'
import { once } from 'node:events'
import { join } from 'node:path'
import { REFUSALS_SHOWN, RefusalLog } from '../../src/cli/refusal-log.js'
import { ConnectionError } from '../../src/errors.js'
import { cleanups } from '../support/cleanup.js'
import { Cli, UNBUNDLED_MAIN, temporaryFolder } from './support.js'

describe('the log of rejected connections', () => {
  it('has one line for each of the first connections, and one line for all others', () => {
    const lines: string[] = []
    const log = new RefusalLog({
      one: ({ message }) => lines.push(message),
      more: (count, { message }) => lines.push(`${count}, ${message}`),
    })
    for (let index = 0; index < 1000; index += 1) log.note(new ConnectionError('X', `${index}`))
    assert.deepEqual(lines, [...Array(REFUSALS_SHOWN).keys()].map(String))
    log.flush()
    assert.equal(lines.at(-1), `${1000 - REFUSALS_SHOWN}, 999`)
    log.flush()
    log.note(new ConnectionError('X', 'again'))
    log.flush()
    assert.deepEqual(lines.slice(REFUSALS_SHOWN + 1), ['again'])
  })

  it('summarizes the others after a delay', async () => {
    const told = await new Promise<number>((resolve) => {
      const log = new RefusalLog({ one: () => undefined, more: resolve }, 1)
      for (let index = 0; index < REFUSALS_SHOWN + 7; index += 1) {
        log.note(new ConnectionError('X', 'refused'))
      }
      // The log does not keep a process alive.
      const alive = setInterval(() => undefined, 1000)
      cleanups.add(() => {
        clearInterval(alive)
      })
    })
    assert.equal(told, 7)
  })

  it('is printed by a listening guest', async () => {
    const cli = new Cli(['guest', '--ram', '8M', '--incoming', 'tcp:127.0.0.1:0'])
    await refuseMany(cli)
    cli.child.stdin?.end('quit\n')
    await assertShort(cli)
  })

  it('is printed by a listening park', async () => {
    const directory = join(await temporaryFolder(), 'vm')
    const cli = new Cli(['park', 'tcp:127.0.0.1:0', '--to', directory])
    await refuseMany(cli)
    cli.child.kill('SIGINT')
    await assertShort(cli)
  })
})

describe('connections that are rejected while the command ends', () => {
  const source = (path: string): string =>
    JSON.stringify(new URL(`../../src/${path}`, import.meta.url).href)
  /** Code that makes `close()` of a class first report rejected connections. */
  const telling = (module: string, name: string): NodeJS.ProcessEnv => {
    const code = `import { isMainThread } from 'node:worker_threads'
      if (isMainThread) {
        const { ${name} } = await import(${source(module)})
        const { ConnectionError } = await import(${source('errors.js')})
        const { close } = ${name}.prototype
        ${name}.prototype.close = function () {
          for (let i = 0; i < ${CONNECTIONS}; i += 1) this.emit('refused', new ConnectionError('X', 'late'))
          return close.call(this)
        }
      }`
    return { NODE_OPTIONS: `--import data:text/javascript,${encodeURIComponent(code)}` }
  }

  it('are logged by a guest', async () => {
    const args = ['guest', '--ram', '8M', '--incoming', 'tcp:127.0.0.1:0']
    const cli = new Cli(args, telling('monitor/monitor.js', 'Monitor'), UNBUNDLED_MAIN)
    await cli.seen(/waiting for a guest/)
    cli.child.stdin?.end('quit\n')
    await assertShort(cli)
  })

  it('are logged by a park', async () => {
    const directory = join(await temporaryFolder(), 'vm')
    const args = ['park', 'tcp:127.0.0.1:0', '--to', directory]
    const cli = new Cli(args, telling('park/park.js', 'Park'), UNBUNDLED_MAIN)
    await cli.seen(/waiting for a VM/)
    cli.child.kill('SIGINT')
    await assertShort(cli)
  })
})

const CONNECTIONS = REFUSALS_SHOWN + 5

/** Makes more invalid connections at once than are printed: a summary is due after 10 s. */
async function refuseMany(cli: Cli): Promise<void> {
  const [, port] = await cli.seen(/waiting for a (?:guest|VM) on tcp:127\.0\.0\.1:(\d+)/)
  const refuse = async (): Promise<void> => {
    const socket = net.connect(Number(port), '127.0.0.1').on('error', () => undefined)
    socket.end('GET /')
    socket.resume()
    await once(socket, 'close')
  }
  await Promise.all(Array.from({ length: CONNECTIONS }, refuse))
}

/** Every connection is in the log, and at most ten lines precede the line about the others. */
async function assertShort(cli: Cli): Promise<void> {
  const { stderr } = await cli.ended
  let [shown, counted, summaries] = [0, 0, 0]
  for (const [, more] of stderr.matchAll(/^postcopy: rejected(?:: | (\d+) more connections)/gm)) {
    shown = more === undefined ? shown + 1 : 0
    counted += Number(more ?? 1)
    if (more !== undefined) summaries += 1
    assert(shown <= REFUSALS_SHOWN, stderr)
  }
  assert.equal(counted, CONNECTIONS, stderr)
  assert(summaries > 0, stderr)
}

/** `postcopy guest`: its monitors, its output, and its end. */
import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { stat } from 'node:fs/promises'
import net from 'node:net'
import { constants } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import * as stream from '../../src/stream/index.js'
import { cleanups } from '../support/cleanup.js'
import { ram } from '../support/guest-processes.js'
import { QmpClient } from '../support/qmp-client.js'
import { Cli, ask, runCli, temporaryFolder } from './support.js'

/**
 * A stream up to its RAM block list, enough to identify a source, with a machine
 * type of our choice.
 */
function headOf(machineType: string): Uint8Array {
  return stream.encode((out) => {
    stream.encodeFileHeader(out)
    stream.encodeConfiguration(out, machineType)
    stream.encodeSectionStart(out, { id: 2, idstr: 'ram', instanceId: 0, version: 4 })
    stream.encodeRamBlockList(out, [{ name: 'ram', usedLengthBytes: 32 * 2 ** 20 }])
    stream.encodeRamEndOfSection(out)
    stream.encodeFooter(out, 2)
  })
}

describe('postcopy guest', () => {
  it("prints a peer's machine type without its control characters", async () => {
    const path = join(await temporaryFolder(), 'monitor')
    const cli = new Cli([
      ...['guest', ...ram, '--monitor', `unix:${path}`, '--incoming', 'tcp:127.0.0.1:0'],
    ])
    const [, port] = await cli.seen(/waiting for a guest on tcp:127\.0\.0\.1:(\d+)/)
    const socket = net.connect(Number(port), '127.0.0.1')
    cleanups.add(() => socket.destroy())
    socket.on('error', () => undefined)
    socket.write(headOf('pc\x1b[2J\x9bH\npostcopy: the guest runs'))
    await cli.seen(/migration \(destination\): failed: .*pc\\x1b\[2J\\x9bH\\x0apostcopy: the guest/)
    assert.doesNotMatch(cli.stdout + cli.stderr, /(?!\n)\p{Cc}|^postcopy: the guest runs/mu)
    while (!existsSync(path)) await sleep(10)
    const answer = await ask(path, 'info migrate')
    assert.match(answer, /error: .*\\x1b/)
    assert.doesNotMatch(answer, /(?!\n)\p{Cc}|^postcopy: the guest runs/mu)
  })

  it('reads commands from a pipe and exits at its end', async () => {
    const { status, stdout } = await runCli(['guest', ...ram], 'info status\nstop\ninfo status\n')
    assert.equal(status, 0)
    assert.equal(
      stdout,
      '(postcopy) VM status: running\n(postcopy) (postcopy) VM status: paused\n(postcopy) ',
    )
  })

  it('prints everything as JSON with --json', async () => {
    const { status, stdout } = await runCli(
      ['guest', ...ram, '--json'],
      'info status\nnonsense\nquit\n',
    )
    assert.equal(status, 0)
    const lines = stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as Record<string, unknown>)
    const [resume, info, error, ...rest] = lines
    assert.deepEqual([resume?.['event'], rest.at(-1)?.['event']], ['RESUME', 'SHUTDOWN'])
    assert.deepEqual(info?.['return'], { running: true, status: 'running' })
    assert.equal((error?.['error'] as { code: string }).code, 'ERR_MONITOR_COMMAND')
    for (const line of lines) assert(typeof line['timestamp'] === 'object')
  })

  for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) {
    it(`exits cleanly at ${signal}`, async () => {
      const cli = new Cli(['guest', ...ram])
      await cli.seen(/the guest runs/)
      // Signal handlers are installed before the prompt appears.
      await cli.seen(/\(postcopy\)/)
      cli.child.kill(signal)
      const { status, stderr } = await cli.ended
      assert.equal(status, 128 + constants.signals[signal])
      assert.match(stderr, /the guest ends/)
    })
  }

  it('can be controlled by QMP alone, and reports the signal that ends it', async () => {
    const path = join(await temporaryFolder(), 'qmp')
    const cli = new Cli(['guest', ...ram, '--monitor', 'none', '--qmp', `unix:${path}`])
    await cli.seen(/QMP on unix:/)
    assert.equal((await stat(path)).mode & 0o777, 0o600)
    const client = await QmpClient.connect({ path })
    await client.execute('stop')
    cli.child.kill('SIGTERM')
    const { data } = await client.told('SHUTDOWN')
    assert.deepEqual(data, { guest: false, reason: 'host-signal' })
    assert.equal((await cli.ended).status, 128 + 15)
    await assert.rejects(stat(path), { code: 'ENOENT' })
  })

  it('names a port that is in use', async () => {
    const first = new Cli(['guest', ...ram, '--incoming', 'tcp:127.0.0.1:0'])
    const [, uri = ''] = await first.seen(/waiting for a guest on (tcp:\S+)/)
    const { status, stderr } = await runCli(['guest', ...ram, '--incoming', uri])
    assert.equal(status, 1)
    assert.match(
      stderr,
      new RegExp(`^postcopy: cannot listen on ${uri}: .* \\[EADDRINUSE\\]$`, 'm'),
    )
  })
})

import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { stat } from 'node:fs/promises'
import net from 'node:net'
import { constants } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { type EndingGuest, lastWords } from '../../src/cli/last-words.js'
import * as stream from '../../src/stream/index.js'
import { cleanups } from '../support/cleanup.js'
import { QmpClient } from '../support/qmp-client.js'
import { Cli, ask, runCli, temporaryFolder } from './support.js'

const ram = ['--ram', '32M']

/** Sends the line until the answer matches. */
async function until(path: string, line: string, pattern: RegExp): Promise<string> {
  for (const deadline = Date.now() + 20_000; ;) {
    const answer = await ask(path, line)
    if (pattern.test(answer)) return answer
    assert(Date.now() < deadline, `no ${String(pattern)} in:\n${answer}`)
    await sleep(20)
  }
}

async function twoGuests(sourceOptions: readonly string[] = []) {
  const folder = await temporaryFolder()
  const [there, here] = [join(folder, 'there'), join(folder, 'here')]
  const destination = new Cli([
    ...['guest', ...ram, '--vcpus', '2', '--monitor', `unix:${there}`],
    ...['--incoming', 'tcp:127.0.0.1:0'],
  ])
  const source = new Cli([
    ...['guest', ...ram, '--vcpus', '2', '--monitor', `unix:${here}`],
    ...['--workload', 'random:writes=30,rate=50000', ...sourceOptions],
  ])
  const [, uri = ''] = await destination.seen(/waiting for a guest on (tcp:\S+)/)
  await source.seen(/the guest runs/)
  // The sockets are created right after those lines, and accept connections at once.
  for (const path of [there, here]) while (!existsSync(path)) await sleep(10)
  return { folder, there, here, source, destination, uri }
}

describe('two guests, controlled only by their monitors', () => {
  it('migrate by postcopy, and the guest is intact and works at the destination', async () => {
    const { there, here, source, destination, uri } = await twoGuests()
    // A waiting destination already accepts a capability, as QEMU does.
    assert.equal(await ask(there, 'migrate_set_capability x-postcopy-ram on'), '')
    const answers = await ask(
      here,
      'migrate_set_capability postcopy-ram on',
      'migrate_set_parameter max-bandwidth 1G',
      `migrate -d ${uri}`,
      'migrate_start_postcopy',
    )
    assert.equal(answers, '')
    await until(here, 'info migrate', /Migration status: completed/)
    const arrived = await until(there, 'info migrate', /Migration status: completed/)
    assert.match(arrived, /discarded pages: [1-9]/)
    const info = await ask(here, 'info migrate', 'info status')
    assert.match(info, /^total time: \d+ ms$/m)
    assert.match(info, /^downtime: \d+ ms$/m)
    assert.match(info, /^postcopy request count: \d+$/m)
    assert.match(info, /VM status: paused \(postmigrate\)/)
    const touches = async () =>
      Number(/CPU #0: .* (\d+) touches/.exec(await ask(there, 'info cpus'))?.[1])
    const before = await touches()
    await sleep(100)
    assert(before > 0 && (await touches()) > before)
    assert.match(
      await ask(here, 'cont'),
      /Error: cannot cont: the destination has confirmed that it has the guest/,
    )
    assert.match(
      await ask(here, `migrate ${uri}`),
      /Error: cannot migrate: the destination has confirmed/,
    )
    assert.equal(await ask(here, 'migrate_start_postcopy'), '', 'harmless after the end')
    assert.match(await ask(there, 'stop', 'verify'), /^content: good$/m)
    await ask(here, 'quit')
    await ask(there, 'quit')
    assert.equal((await source.ended).status, 0)
    assert.equal((await destination.ended).status, 0)
  })

  it('both ends refuse a capability that only one of them has, and the guest stays', async () => {
    const { there, here, uri } = await twoGuests()
    const outcome = await ask(
      here,
      'migrate_set_capability postcopy-ram on',
      `migrate ${uri}`,
      'info status',
    )
    assert.match(outcome, /Migration status: failed\nerror: .+/)
    assert.match(outcome, /VM status: running/)
    const why = await until(there, 'info migrate', /status: failed/)
    assert.match(why, /postcopy-ram is off here/)
    // The next attempt needs no new process.
    const again = await ask(
      there,
      'migrate_set_capability postcopy-ram on',
      `migrate_incoming ${uri}`,
    )
    assert.match(again, /listening on tcp:/)
    assert.match(await ask(here, `migrate ${uri}`), /Migration status: completed/)
  })

  it('a monitor socket is accessible only to its owner, and removed when the process ends', async () => {
    const { folder, here, source } = await twoGuests()
    assert.equal((await stat(here)).mode & 0o777, 0o600)
    await ask(here, 'quit')
    assert.equal((await source.ended).status, 0)
    await assert.rejects(stat(join(folder, 'here')), { code: 'ENOENT' })
  })

  it('SIGTERM to a source in precopy leaves the destination listening for another source', async () => {
    const { there, here, source, uri } = await twoGuests()
    await ask(here, 'migrate_set_parameter max-bandwidth 1M', `migrate -d ${uri}`)
    await until(there, 'info migrate', /status: active/)
    source.child.kill('SIGTERM')
    assert.equal((await source.ended).status, 128 + 15)
    assert.match(await until(there, 'info migrate', /status: failed/), /error: .*closed/)
    assert.match(await ask(there, `migrate_incoming ${uri}`), /listening/)
  })

  it('SIGTERM to a source in postcopy ends it after the destination has received every page', async () => {
    const { there, here, source, uri } = await twoGuests()
    await ask(there, 'migrate_set_capability postcopy-ram on')
    await ask(
      here,
      'migrate_set_capability postcopy-ram on',
      'migrate_set_parameter max-postcopy-bandwidth 20M',
      `migrate -d ${uri}`,
      'migrate_start_postcopy',
    )
    await until(here, 'info migrate', /status: postcopy-active/)
    assert.match(await ask(here, 'quit'), /Error: the guest would lose pages/)
    source.child.kill('SIGTERM')
    await source.seen(/this process ends when they have been received/)
    assert.equal((await source.ended).status, 128 + 15)
    await until(there, 'info migrate', /status: completed/)
    assert.match(await ask(there, 'stop', 'verify'), /^content: good$/m)
  })
})

/** Two guests; the source is in a postcopy that makes no progress. */
async function slowPostcopy(sourceOptions: readonly string[] = []) {
  const guests = await twoGuests(sourceOptions)
  const { there, here, uri } = guests
  await ask(there, 'migrate_set_capability postcopy-ram on')
  await ask(
    here,
    'migrate_set_capability postcopy-ram on',
    'migrate_set_parameter max-postcopy-bandwidth 100K',
    `migrate -d ${uri}`,
    'migrate_start_postcopy',
  )
  await until(here, 'info migrate', /status: postcopy-active/)
  return guests
}

describe('the last line of a guest process', () => {
  it('reports lost pages if the destination still needs them', async () => {
    const { there, here, source } = await slowPostcopy()
    source.child.kill('SIGINT')
    await source.seen(/this process ends when they have been received/)
    source.child.kill('SIGTERM')
    const { status, stderr } = await source.ended
    assert.equal(status, 128 + 15)
    assert.doesNotMatch(stderr, /the guest ends/)
    assert.match(stderr, /the guest is at the destination; the pages .* are lost with this process/)
    assert.doesNotMatch(stderr, /--recover/)
    assert.equal(existsSync(here), false)
    await until(there, 'info migrate', /status: postcopy-paused/)
    assert.match(await ask(there, 'quit -f'), /^$/)
  })

  it('names the spilled pages and the command that continues from them', async () => {
    const spill = join(await temporaryFolder(), 'sp')
    const { there, here, source } = await slowPostcopy(['--spill', spill])
    await source.seen(/the pages that the postcopy owes are on disk/)
    await ask(here, 'migrate_pause')
    await until(here, 'info migrate', /status: postcopy-paused/)
    source.child.kill('SIGTERM')
    await source.seen(/this process ends when they have been received/)
    source.child.kill('SIGTERM')
    const { stderr } = await source.ended
    const last = stderr.trimEnd().split('\n').at(-1) ?? ''
    assert.match(last, /the guest is at the destination; the pages .* are in .*sp\.incomplete: /)
    assert.match(last, /migrate_recover URI .* postcopy resume --recover .*sp\.incomplete URI/)
    assert.doesNotMatch(stderr, /the guest ends|lost with this process/)
    await until(there, 'info migrate', /status: postcopy-paused/)
  })

  it('reports that no guest has arrived', async () => {
    const cli = new Cli(['guest', ...ram, '--incoming', 'tcp:127.0.0.1:0'])
    await cli.seen(/waiting for a guest on/)
    await cli.seen(/\(postcopy\)/)
    cli.child.kill('SIGTERM')
    assert.match((await cli.ended).stderr, /no guest has arrived/)
    assert.doesNotMatch(cli.stderr, /the guest ends/)
  })

  const arrived = { state: 'completed', guestLocation: 'here' } as const
  const texts: readonly (readonly [string, RegExp, Partial<EndingGuest>])[] = [
    ['has never migrated', /^the guest ends$/, {}],
    ['has arrived', /^the guest ends$/, { incoming: true, destination: arrived }],
    [
      'is still arriving',
      /^the guest ends before all of its memory has been received$/,
      { incoming: true, destination: { state: 'postcopy-paused', guestLocation: 'here' } },
    ],
    [
      'failed to arrive',
      /^no guest has arrived$/,
      { incoming: true, destination: { state: 'failed', guestLocation: 'elsewhere' } },
    ],
    [
      'stays after a migration that failed',
      /^the guest ends$/,
      { source: { state: 'failed', guestLocation: 'here' } },
    ],
    [
      'is stopped by a migration before the switch',
      /^the guest ends$/,
      { source: { state: 'device', guestLocation: 'here' } },
    ],
    [
      'was migrated away',
      /^the guest is at the destination, with all of its memory$/,
      { source: { state: 'completed', guestLocation: 'elsewhere' } },
    ],
    [
      'was migrated away again after it had arrived',
      /^the guest is at the destination, with all of its memory$/,
      {
        incoming: true,
        destination: arrived,
        source: { state: 'completed', guestLocation: 'elsewhere' },
      },
    ],
    [
      'was sent by precopy and not answered',
      /^whether the destination has the guest is not known: check there \(info status\)$/,
      { source: { state: 'completed', guestLocation: 'unknown' } },
    ],
    [
      'was sent by postcopy and not answered',
      /^whether the destination has the guest is not known: .*; if so, the pages .* are lost with/,
      { source: { state: 'postcopy-device', guestLocation: 'unknown' } },
    ],
    [
      'was sent and not answered, and was spilled',
      /^whether the destination .* not known: .*; if so, the pages .* are in d\.incomplete: GO ON$/,
      {
        source: { state: 'postcopy-paused', guestLocation: 'unknown' },
        spilled: { path: 'd.incomplete', goOn: 'GO ON' },
      },
    ],
  ]
  for (const [title, expected, given] of texts) {
    it(`is true if the guest ${title}`, () => {
      const none = { incoming: false, source: undefined, destination: undefined }
      assert.match(lastWords({ ...none, spilled: undefined, ...given }), expected)
    })
  }
})

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

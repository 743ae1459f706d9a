/**
 * SIGKILL of either end, in every state that can be held: the resulting state of the other end.
 */
import assert from 'node:assert/strict'
import type { Role } from '../../../src/cli/guest-process.js'
import type { MigrationState } from '../../../src/migration/states.js'
import type { Host } from '../../../src/testing/index.js'
import { requires } from '../../support/requires.js'
import {
  type GuestPair,
  assertWhole,
  assertWorks,
  begin,
  both,
  guestsOn,
  inPostcopy,
  isRunning,
  touchesOf,
  twoHosts,
} from '../../support/two-hosts.js'

/**
 * What the other end has of the guest afterwards:
 *
 * - `works`: all of it, running
 * - `kept`: all of it, stopped, as it was at the switch; `cont -f` starts it
 * - `waits`: it runs until it needs a missing page, and every present page is right
 * - `none`: it was lost with the process that had all of it
 */
type Guest = 'works' | 'kept' | 'waits' | 'none'

interface Row {
  readonly killed: Role
  /** The state in which it is killed. */
  readonly in: MigrationState
  readonly reach: () => Promise<GuestPair>
  /** The final state of the other end. */
  readonly other: MigrationState
  readonly guest: Guest
}

async function inPrecopy(packageOrder?: 'main' | 'worker'): Promise<GuestPair> {
  const pair = await guestsOn(twoHosts(), { parameters: { 'max-bandwidth': '100K' }, packageOrder })
  await begin(pair)
  await both(pair, 'active')
  return pair
}

/** The package is sent to a destination that is stopped. */
async function atSwitch(packageOrder?: 'main' | 'worker'): Promise<GuestPair> {
  const pair = await inPrecopy(packageOrder)
  const { source, destination } = pair
  // Until all that was sent is read, so that the package has room. The
  // next pages follow in seconds.
  for (let [sent, taken] = [1, 0]; sent !== taken;) {
    const { ram } = (await source.queryMigrate()).value
    sent = (ram?.normal ?? 0) + (ram?.duplicate ?? 0) || 1
    taken = (await destination.queryMigrate()).value['x-pages']?.precopied ?? 0
  }
  process.kill(destination.pid, 'SIGSTOP')
  await source.command('migrate_start_postcopy')
  await source.reached('source', ['postcopy-device'])
  return pair
}

async function paused(): Promise<GuestPair> {
  const pair = await inPostcopy()
  await pair.source.command('migrate_pause')
  await both(pair, 'postcopy-paused')
  return pair
}

async function awaitingRecovery(): Promise<GuestPair> {
  const pair = await paused()
  await pair.destination.migrateRecover(`tcp:${pair.hosts.b.address}:0`)
  await pair.destination.reached('destination', ['postcopy-recover-setup'])
  return pair
}

/** Whether a connection to this host holds unread bytes. */
function hasUnread(host: Host): boolean {
  const ESTABLISHED = '01'
  const sockets = host.run('cat', '/proc/net/tcp').trim().split('\n').slice(1)
  return sockets.some((line) => {
    const [, , , state, queues = ''] = line.trim().split(/\s+/)
    return state === ESTABLISHED && Number.parseInt(queues.split(':')[1] ?? '', 16) > 0
  })
}

/** The source has sent its recovery request to a destination that does not answer. */
async function recovering(): Promise<GuestPair> {
  const pair = await paused()
  const uri = await pair.destination.migrateRecover(`tcp:${pair.hosts.b.address}:0`)
  process.kill(pair.destination.pid, 'SIGSTOP')
  await pair.source.migrate(uri, { resume: true })
  await pair.source.reached('source', ['postcopy-recover'])
  while (!hasUnread(pair.hosts.b));
  return pair
}

async function completed(): Promise<GuestPair> {
  const pair = await inPostcopy({ parameters: {} })
  await both(pair, 'completed')
  return pair
}

const rows: readonly Row[] = [
  {
    killed: 'destination',
    in: 'active',
    reach: () => inPrecopy(),
    other: 'failed',
    guest: 'works',
  },
  {
    killed: 'destination',
    in: 'postcopy-device',
    reach: () => atSwitch(),
    other: 'postcopy-paused',
    guest: 'kept',
  },
  {
    killed: 'destination',
    in: 'postcopy-active',
    reach: () => inPostcopy(),
    other: 'postcopy-paused',
    guest: 'kept',
  },
  {
    killed: 'destination',
    in: 'postcopy-paused',
    reach: paused,
    other: 'postcopy-paused',
    guest: 'kept',
  },
  {
    killed: 'destination',
    in: 'postcopy-recover',
    reach: recovering,
    other: 'postcopy-paused',
    guest: 'kept',
  },
  { killed: 'destination', in: 'completed', reach: completed, other: 'completed', guest: 'kept' },
  { killed: 'source', in: 'active', reach: () => inPrecopy(), other: 'failed', guest: 'none' },
  // The destination gets the package and the end of the connection at once.
  {
    killed: 'source',
    in: 'postcopy-device',
    reach: () => atSwitch('worker'),
    other: 'failed',
    guest: 'none',
  },
  {
    killed: 'source',
    in: 'postcopy-device',
    reach: () => atSwitch('main'),
    other: 'postcopy-paused',
    guest: 'waits',
  },
  {
    killed: 'source',
    in: 'postcopy-active',
    reach: () => inPostcopy(),
    other: 'postcopy-paused',
    guest: 'waits',
  },
  {
    killed: 'source',
    in: 'postcopy-paused',
    reach: awaitingRecovery,
    other: 'postcopy-recover-setup',
    guest: 'waits',
  },
  {
    killed: 'source',
    in: 'postcopy-recover',
    reach: recovering,
    other: 'postcopy-paused',
    guest: 'waits',
  },
  { killed: 'source', in: 'completed', reach: completed, other: 'completed', guest: 'works' },
]

async function assertHas(pair: GuestPair, other: Role, guest: Guest): Promise<void> {
  const end = pair[other]
  switch (guest) {
    case 'works':
      await assertWhole(end)
      break
    case 'kept':
      assert.equal(await isRunning(end), false)
      await end.command('cont -f')
      await assertWhole(end)
      break
    case 'waits':
      assert.equal(await isRunning(end), true)
      await touchesOf(end)
      break
    case 'none':
      assert.equal(await isRunning(end), false)
  }
}

describe('an end that is killed', () => {
  before(function () {
    requires(this, 'root', 'ip')
  })

  for (const { killed, in: state, reach, other, guest } of rows) {
    const role = killed === 'source' ? 'destination' : 'source'
    it(`the ${killed} in ${state} leaves the ${role} ${other}, where the guest ${guest === 'none' ? 'never ran' : guest === 'kept' ? 'is kept' : guest}`, async () => {
      const pair = await reach()
      // A stopped destination has reported no state for a while, so only a source is checked.
      if (killed === 'source') assert.equal(pair.source.state('source'), state)
      pair[killed].kill()
      await pair[killed].end()
      process.kill(pair[role].pid, 'SIGCONT')
      await pair[role].reached(role, [other])
      await assertHas(pair, role, guest)
    })
  }

  it('the destination before a connection leaves a source that cannot connect, and works', async () => {
    const { hosts, source, destination } = await guestsOn(twoHosts())
    const uri = await destination.migrateIncoming(`tcp:${hosts.b.address}:0`)
    destination.kill()
    await destination.end()
    await source.migrate(uri)
    assert.equal(await source.reached('source', ['failed']), 'failed')
    assert.match((await source.queryMigrate()).value['error-desc'] ?? '', /ECONNREFUSED/)
    await assertWorks(source)
  })
})

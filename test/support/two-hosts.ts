/** Two hosts with a guest process on each, driven by their monitors. Removed after the test. */
import assert from 'node:assert/strict'
import { join } from 'node:path'
import { GuestProcess, type Role } from '../../src/cli/guest-process.js'
import type { MigrationState } from '../../src/migration/states.js'
import { outcomeOf } from '../../src/soak/outcome.js'
import { type Host, HostLink, TwoHosts } from '../../src/testing/index.js'
import { temporaryFolder } from '../cli/support.js'
import { cleanups } from './cleanup.js'
import { QmpClient } from './qmp-client.js'

export function twoHosts(): TwoHosts {
  const hosts = TwoHosts.create()
  cleanups.add(() => hosts.remove())
  return hosts
}

/** A link to a destination on host b; its target is set later. */
export async function linkTo(hosts: TwoHosts): Promise<HostLink> {
  const link = await HostLink.listen(hosts.b, 'tcp:127.0.0.1:1')
  cleanups.add(() => link.close())
  return link
}

export interface GuestPair {
  readonly hosts: TwoHosts
  /** On host a. */
  readonly source: GuestProcess
  /** On host b. */
  readonly destination: GuestProcess
}

export interface GuestPairOptions {
  /** Default: 16 MiB. */
  readonly ram?: string
  /** Default: touches that need seconds to reach every page, half of them writes. */
  readonly workload?: string
  readonly capabilities?: readonly string[]
  /** For both ends. Default: postcopy does not end before the limit is raised. */
  readonly parameters?: Readonly<Record<string, string | number>>
  /** Of the destination: which thread is first, see package-order.ts. */
  readonly packageOrder?: 'main' | 'worker' | undefined
}

const SLOW = { 'max-postcopy-bandwidth': 100_000 } as const

/** One process runs its guest; the other one waits for a URI to listen on. */
export async function guestsOn(
  hosts: TwoHosts,
  options: GuestPairOptions = {},
): Promise<GuestPair> {
  const { workload = 'random:writes=50,rate=200', parameters = SLOW } = options
  const source = guestOn(
    hosts.a,
    'source',
    [...machineOf(options), '--workload', workload],
    options.packageOrder === undefined ? [] : preload('source'),
  )
  const destination = waitingOn(hosts.b, options)
  for (const [name, value] of Object.entries(parameters)) {
    await Promise.all(
      [source, destination].map((end) => end.command(`migrate_set_parameter ${name} ${value}`)),
    )
  }
  return { hosts, source, destination }
}

function machineOf({ ram = '16M', capabilities = ['postcopy-ram'] }: GuestPairOptions): string[] {
  return ['--ram', ram, '--vcpus', '2', ...capabilities.flatMap((name) => ['--capability', name])]
}

/** Node's flags that fix the order of threads, see package-order.ts. */
function preload(order: 'source' | 'main' | 'worker'): string[] {
  return ['--import', new URL(`./package-order.js?${order}`, import.meta.url).href]
}

function waitingOn(host: Host, options: GuestPairOptions): GuestProcess {
  const { packageOrder } = options
  const flags = packageOrder === undefined ? [] : preload(packageOrder)
  return guestOn(host, 'destination', [...machineOf(options), '--incoming', 'defer'], flags)
}

/** The same source, and another process that waits for its guest, with default parameters. */
export async function withNewDestination(
  { hosts, source, destination }: GuestPair,
  options: GuestPairOptions = {},
): Promise<GuestPair> {
  destination.kill()
  await destination.end()
  return { hosts, source, destination: waitingOn(hosts.b, options) }
}

function guestOn(
  host: Host,
  role: Role,
  args: readonly string[],
  nodeFlags: readonly string[] = [],
): GuestProcess {
  const guest = new GuestProcess(role, args, {
    name: `${role} on ${host.name}`,
    spawn: (command, rest) => host.spawn(command, [...nodeFlags, ...rest]),
  })
  cleanups.add(() => {
    guest.kill()
    return guest.end()
  })
  return guest
}

/** Starts a guest process with QMP on a unix socket, and connects to it. */
export async function qmpOf(host: Host, role: Role, args: readonly string[]): Promise<QmpClient> {
  const path = join(await temporaryFolder(), role)
  const guest = guestOn(host, role, [...args, '--qmp', `unix:${path}`])
  await guest.command('info status')
  const client = await QmpClient.connect({ path })
  cleanups.add(() => client.close())
  return client
}

/** Starts a migration, through a link if there is one. */
export async function begin(
  { hosts, source, destination }: GuestPair,
  link?: HostLink,
): Promise<void> {
  const uri = await destination.migrateIncoming(`tcp:${hosts.b.address}:0`)
  await link?.change({ target: uri })
  await source.migrate(link?.uri ?? uri)
}

/** Two guests in the middle of a postcopy that does not end during a test. */
export async function inPostcopy(options: GuestPairOptions = {}): Promise<GuestPair> {
  const pair = await guestsOn(twoHosts(), options)
  await begin(pair)
  await pair.source.command('migrate_start_postcopy')
  await both(pair, 'postcopy-active')
  return pair
}

/** Recovers a migration that is paused at both ends. */
export async function recover(
  { hosts, source, destination }: GuestPair,
  link?: HostLink,
): Promise<void> {
  const uri = await destination.migrateRecover(`tcp:${hosts.b.address}:0`)
  await link?.change({ target: uri })
  await source.migrate(link?.uri ?? uri, { resume: true })
}

/**
 * Waits until both ends are in one of these states; one that an end only passes
 * through may be missed.
 */
export async function both(
  { source, destination }: GuestPair,
  ...states: MigrationState[]
): Promise<void> {
  await Promise.all([source.reached('source', states), destination.reached('destination', states)])
}

/**
 * Waits after a break until both ends are at rest. A reset drops unread bytes, so a destination
 * may not have recognised its source. It then waits for another one, and is ended.
 */
export async function bothRest({ source, destination }: GuestPair): Promise<void> {
  const rest: MigrationState[] = ['failed', 'postcopy-paused', 'completed']
  await source.reached('source', rest)
  // The answer follows every state event that it has sent.
  await destination.queryMigrate()
  if (destination.state('destination') === 'setup') {
    destination.kill()
    await destination.end()
  } else await destination.reached('destination', rest)
}

/**
 * Lets postcopy run at full speed to its end; checks that all of the guest is at the destination.
 */
export async function finish(pair: GuestPair): Promise<void> {
  await pair.source.command('migrate_set_parameter max-postcopy-bandwidth 0')
  await both(pair, 'completed', 'postcopy-paused', 'failed')
  assert.equal(pair.source.state('source'), 'completed')
  assert.equal(pair.destination.state('destination'), 'completed')
  await assertWhole(pair.destination)
}

/** The outcome for the guest, see `src/soak/outcome.ts`. */
export async function outcomeIn({
  source,
  destination,
}: GuestPair): Promise<ReturnType<typeof outcomeOf>> {
  return outcomeOf({
    source: source.state('source'),
    destination: destination.isAlive ? destination.state('destination') : 'gone',
    runsHere: await isRunning(source),
    runsThere: destination.isAlive && (await isRunning(destination)),
  })
}

export async function isRunning(guest: GuestProcess): Promise<boolean> {
  return ((await guest.command('info status')).value as { running: boolean }).running
}

/** The guest works here, and every page of it is right. */
export async function assertWhole(guest: GuestProcess): Promise<void> {
  await assertWorks(guest)
  await guest.command('stop')
  const report = await guest.verify()
  assert.equal(report.verified, true, JSON.stringify(report))
}

/** Its vCPUs make progress, and none of their checks has failed. */
export async function assertWorks(guest: GuestProcess): Promise<void> {
  const before = await touchesOf(guest)
  while ((await touchesOf(guest)) === before);
}

/** Touches of all vCPUs; also checks that none of their checks has failed. */
export async function touchesOf(guest: GuestProcess): Promise<number> {
  const cpus = (await guest.queryCpus()).value
  for (const { failedChecks } of cpus) assert.equal(failedChecks, 0)
  return cpus.reduce((sum, cpu) => sum + cpu.touches, 0)
}

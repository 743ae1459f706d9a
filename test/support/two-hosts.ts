/** Two hosts, and a guest process on each, driven by their monitors. Gone behind the test. */
import assert from 'node:assert/strict'
import { GuestProcess, type GuestProcessOptions } from '../../src/cli/guest-process.js'
import { type Host, TwoHosts } from '../../src/testing/index.js'
import { cleanups } from './cleanup.js'

export function twoHosts(): TwoHosts {
  const hosts = TwoHosts.create()
  cleanups.add(() => hosts.remove())
  return hosts
}

export interface GuestPair {
  /** On host a. */
  readonly source: GuestProcess
  /** On host b. */
  readonly destination: GuestProcess
}

export interface GuestPairOptions {
  /** Default: of 16 MiB and two vCPUs, half of whose touches are writes. */
  readonly ram?: string
  readonly workload?: string
  readonly capabilities?: readonly string[]
}

/** One runs its guest, the other one waits to be told where to listen. */
export function guestsOn(hosts: TwoHosts, options: GuestPairOptions = {}): GuestPair {
  const { ram = '16M', workload = 'random:writes=50', capabilities = ['postcopy-ram'] } = options
  const common = ['--ram', ram, '--vcpus', '2']
  for (const name of capabilities) common.push('--capability', name)
  return {
    source: guestOn(hosts.a, 'source', [...common, '--workload', workload]),
    destination: guestOn(hosts.b, 'destination', [...common, '--incoming', 'defer']),
  }
}

function guestOn(host: Host, role: GuestProcess['role'], args: readonly string[]): GuestProcess {
  const spawn: GuestProcessOptions['spawn'] = (command, rest) => host.spawn(command, rest)
  const guest = new GuestProcess(role, args, { name: `${role} on ${host.name}`, spawn })
  cleanups.add(() => {
    guest.kill()
    return guest.end()
  })
  return guest
}

/** Begins to migrate. @returns where the destination listens */
export async function begin(hosts: TwoHosts, { source, destination }: GuestPair): Promise<string> {
  const uri = await destination.migrateIncoming(`tcp:${hosts.b.address}:0`)
  await source.migrate(uri)
  return uri
}

/** It works here, and every page of it is what it has to be. */
export async function assertWhole(guest: GuestProcess): Promise<void> {
  await assertWorks(guest)
  await guest.command('stop')
  const report = await guest.verify()
  assert.equal(report.verified, true, JSON.stringify(report))
}

/** Its vCPUs go on, and none of their checks has failed. */
export async function assertWorks(guest: GuestProcess): Promise<void> {
  const touches = async (): Promise<number> => {
    const cpus = (await guest.queryCpus()).value
    assert.deepEqual(
      cpus.map(({ failedChecks }) => failedChecks),
      cpus.map(() => 0),
    )
    return cpus.reduce((sum, cpu) => sum + cpu.touches, 0)
  }
  const before = await touches()
  while ((await touches()) === before);
}

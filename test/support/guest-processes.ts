/** Two `postcopy guest` processes on this host, controlled by their monitors. */
import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { Cli, ask, temporaryFolder } from '../cli/support.js'

export const ram = ['--ram', '32M']

/** Sends the line until the answer matches. */
export async function until(path: string, line: string, pattern: RegExp): Promise<string> {
  for (const deadline = Date.now() + 20_000; ;) {
    const answer = await ask(path, line)
    if (pattern.test(answer)) return answer
    assert(Date.now() < deadline, `no ${String(pattern)} in:\n${answer}`)
    await sleep(20)
  }
}

export async function twoGuests(sourceOptions: readonly string[] = []) {
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

/** Two guests in a postcopy whose pages are pushed with this bandwidth. */
export async function guestsInPostcopy(bandwidth: string, sourceOptions: readonly string[] = []) {
  const guests = await twoGuests(sourceOptions)
  const { there, here, uri } = guests
  await ask(there, 'migrate_set_capability postcopy-ram on')
  await ask(
    here,
    'migrate_set_capability postcopy-ram on',
    `migrate_set_parameter max-postcopy-bandwidth ${bandwidth}`,
    `migrate -d ${uri}`,
    'migrate_start_postcopy',
  )
  await until(here, 'info migrate', /status: postcopy-active/)
  return guests
}

/**
 * One script for QEMU and for us: a program that drives one of them by QMP can drive the other.
 */
import assert from 'node:assert/strict'
import { join } from 'node:path'
import { temporaryFolder } from '../cli/support.js'
import type { QmpClient, QmpEvent } from '../support/qmp-client.js'
import { type QmpPair, guestPair, qemuPair } from '../support/qmp-pairs.js'
import { requires } from '../support/requires.js'

type Way = 'precopy' | 'postcopy' | 'pause' | 'recover' | 'cancel'

interface Course {
  readonly source: readonly string[]
  readonly destination: readonly string[]
  readonly sourceStatus: unknown
}

/** Bytes per second; so slow that the migration still runs at the next command. */
const SLOW = 50_000

/** The events at both ends, in the newest names; see {@link normalise}. */
const courses: Readonly<Record<Way, Course>> = {
  precopy: {
    source: ['setup', 'PASS', 'active', 'STOP', 'PASS', 'completed'],
    destination: ['setup', 'active', 'RESUME', 'completed'],
    sourceStatus: 'postmigrate',
  },
  postcopy: {
    source: ['setup', 'PASS', 'active', 'STOP', 'PASS', 'postcopy-active', 'completed'],
    destination: ['setup', 'active', 'postcopy-active', 'RESUME', 'completed'],
    sourceStatus: 'postmigrate',
  },
  pause: {
    source: ['setup', 'PASS', 'active', 'STOP', 'PASS', 'postcopy-active', 'postcopy-paused'],
    destination: ['setup', 'active', 'postcopy-active', 'RESUME', 'postcopy-paused'],
    sourceStatus: 'finish-migrate',
  },
  recover: {
    source: [
      ...['setup', 'PASS', 'active', 'STOP', 'PASS', 'postcopy-active', 'postcopy-paused'],
      ...['postcopy-recover', 'postcopy-active', 'completed'],
    ],
    destination: [
      ...['setup', 'active', 'postcopy-active', 'RESUME', 'postcopy-paused'],
      ...['postcopy-recover', 'postcopy-active', 'completed'],
    ],
    sourceStatus: 'postmigrate',
  },
  cancel: {
    source: ['setup', 'PASS', 'active', 'cancelling', 'cancelled'],
    destination: ['setup', 'active', 'failed'],
    sourceStatus: 'running',
  },
}

const last = (way: Way): string => courses[way].source.at(-1) ?? ''

/** Drives one migration from start to end. */
async function run({ source, destination }: QmpPair, way: Way): Promise<void> {
  const isPaused = way === 'pause' || way === 'recover'
  assert.equal(await statusOf(source), 'running')
  assert.equal(await statusOf(destination), 'inmigrate')
  await source.enable('postcopy-ram', 'events')
  await destination.enable('postcopy-ram', 'postcopy-blocktime', 'events')
  await destination.execute('migrate-incoming', { uri: 'tcp:127.0.0.1:0' })
  await source.execute('migrate-set-parameters', {
    'max-bandwidth': way === 'precopy' ? 1024 ** 3 : SLOW,
    'max-postcopy-bandwidth': isPaused ? SLOW : 0,
  })
  await source.execute('migrate', { uri: await addressOf(destination) })
  if (way !== 'precopy') await source.reached('active')
  if (way === 'postcopy' || isPaused) await source.execute('migrate-start-postcopy')
  if (isPaused) {
    await destination.told('RESUME')
    await Promise.all([source, destination].map((end) => end.reached('postcopy-active')))
    await source.execute('migrate-pause')
  }
  if (way === 'recover') {
    await Promise.all([source, destination].map((end) => end.reached('postcopy-paused')))
    const uri = `unix:${join(await temporaryFolder(), 'recover')}`
    await destination.execute('migrate-recover', { uri })
    await source.execute('migrate', { uri, resume: true })
    await source.execute('migrate-set-parameters', { 'max-postcopy-bandwidth': 0 })
  }
  if (way === 'cancel') await source.execute('migrate_cancel')
  await source.reached(last(way))
  await source.told('MIGRATION', { status: last(way) })
  await destination.told('MIGRATION', { status: courses[way].destination.at(-1) })
}

async function statusOf(end: QmpClient): Promise<unknown> {
  return ((await end.execute('query-status')) as { status: string }).status
}

async function addressOf(end: QmpClient): Promise<string> {
  const info = (await end.execute('query-migrate')) as {
    'socket-address': readonly { host: string; port: string }[]
  }
  const [address] = info['socket-address']
  return `tcp:${address?.host ?? ''}:${address?.port ?? ''}`
}

const unknownTo72: ReadonlySet<string> = new Set([
  'device',
  'postcopy-device',
  'postcopy-recover-setup',
])

/**
 * Removes the differences between versions of QEMU. 7.2 has no `device` here, no `postcopy-device`
 * and no `postcopy-recover-setup`. A destination of 7.2 that listens again reports `setup`, and a
 * source is `postcopy-active` before it stops the guest, not after. The number of passes in a
 * precopy depends on the guest: only the first and the last one stay.
 */
function normalise(events: readonly QmpEvent[]): string[] {
  const names = events
    .map(({ event, data }) => {
      if (event === 'MIGRATION_PASS') return 'PASS'
      return event === 'MIGRATION' ? String(data?.['status']) : event
    })
    .filter((name, at) => !unknownTo72.has(name) && (name !== 'setup' || at === 0))
    .filter((name, at, all) => name !== 'PASS' || at === 1 || all[at - 1] === 'STOP')
  const active = names.indexOf('postcopy-active')
  if (active >= 0 && names[active + 1] === 'STOP') {
    names.splice(active + 2, 1, names[active + 2] ?? '', 'postcopy-active')
    names.splice(active, 1)
  }
  return names
}

function isWithin(part: readonly string[], whole: readonly string[]): boolean {
  let at = -1
  return part.every((name) => (at = whole.indexOf(name, at + 1)) >= 0)
}

for (const [name, start] of [
  ['two QEMUs', qemuPair],
  ['two postcopy guests', guestPair],
] as const) {
  describe(`${name}, driven by QMP`, () => {
    if (start === qemuPair) {
      before(function () {
        requires(this, 'qemu', 'root')
      })
    }

    for (const way of ['precopy', 'postcopy', 'pause', 'recover', 'cancel'] as const) {
      const course = courses[way]
      it(`pass through ${course.source.join(', ')}`, async () => {
        const pair = await start()
        await run(pair, way)
        const { source, destination } = pair
        for (const role of ['source', 'destination'] as const) {
          const { events, statuses } = pair[role]
          assert.deepEqual(normalise(events), course[role], role)
          const states = events.flatMap(({ data }) => data?.['status'] ?? [])
          assert(isWithin(statuses, states as string[]), `${role}: ${statuses.join(', ')}`)
        }
        const passes = source.events.flatMap(({ data }) => data?.['pass'] ?? [])
        assert.deepEqual(
          passes,
          passes.map((_, index) => index + 1),
        )
        assert.equal(await statusOf(source), course.sourceStatus)
        if (way === 'cancel') return
        assert.equal(await statusOf(destination), 'running')
        if (way !== 'postcopy') return
        const info = (await destination.execute('query-migrate')) as Record<string, unknown>
        assert.equal(typeof info['postcopy-blocktime'], 'number')
        assert.deepEqual((info['postcopy-vcpu-blocktime'] as unknown[]).length, 1)
      })
    }

    it('emit STOP, RESUME and SHUTDOWN before the answer to their command', async () => {
      const { source } = await start()
      for (const command of ['stop', 'cont', 'quit']) await source.execute(command)
      assert.deepEqual(
        source.events.map(({ event, data }) => [event, data]),
        [
          ['STOP', undefined],
          ['RESUME', undefined],
          ['SHUTDOWN', { guest: false, reason: 'host-qmp-quit' }],
        ],
      )
    })

    it('emit no migration events without the capability', async () => {
      const { source } = await start()
      await source.execute('migrate', { uri: 'tcp:127.0.0.1:1' })
      await source.reached('failed')
      assert.deepEqual(source.events, [])
    })

    it('refuse commands with the same messages', async () => {
      const { source } = await start()
      const refusals: readonly (readonly [string, object, string])[] = [
        ['nonsense', {}, 'CommandNotFound: The command nonsense has not been found'],
        ['migrate', {}, "GenericError: Parameter 'uri' is missing"],
        ['migrate', { uri: 5 }, "GenericError: Invalid parameter type for 'uri', expected: string"],
        ['stop', { soon: true }, "GenericError: Parameter 'soon' is unexpected"],
        [
          'migrate-set-capabilities',
          { capabilities: [{ capability: 'events' }] },
          "GenericError: Parameter 'capabilities[0].state' is missing",
        ],
        [
          'migrate-set-capabilities',
          { capabilities: [{ capability: 'teleport', state: true }] },
          "GenericError: Parameter 'capability' does not accept value 'teleport'",
        ],
        [
          'migrate-set-parameters',
          { 'max-bandwidth': 'much' },
          "GenericError: Parameter 'max-bandwidth' expects uint64",
        ],
      ]
      for (const [command, args, words] of refusals) {
        assert.equal(await source.refusal(command, args), words)
      }
    })
  })
}

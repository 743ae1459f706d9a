/** A migration between two `postcopy guest` processes, from start to end. */
import assert from 'node:assert/strict'
import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { guestsInPostcopy, twoGuests, until } from '../support/guest-processes.js'
import { ask } from './support.js'

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
    const { there, here, source } = await guestsInPostcopy('20M')
    assert.match(await ask(here, 'quit'), /Error: the guest would lose pages/)
    source.child.kill('SIGTERM')
    await source.seen(/this process ends when they have been received/)
    assert.equal((await source.ended).status, 128 + 15)
    await until(there, 'info migrate', /status: completed/)
    assert.match(await ask(there, 'stop', 'verify'), /^content: good$/m)
  })
})

import assert from 'node:assert/strict'
import { Migration } from '../../../src/migration/migration.js'
import type { MigrationState } from '../../../src/migration/states.js'
import { QmpServer, migrationTarget } from '../../../src/monitor/qmp/index.js'
import { cleanups } from '../../support/cleanup.js'
import { QmpClient } from '../../support/qmp-client.js'

class Example extends Migration {
  static create(): Example {
    return new Example()
  }

  become(state: MigrationState): void {
    this.setState(state)
  }
}

describe('QMP over one migration', () => {
  it('emits its events, has the supported commands, and reports why it ends', async () => {
    const migration = Example.create()
    let quit = false
    const server = await QmpServer.listen(
      migrationTarget(migration, {
        queryStatus: () => ({ running: false, status: 'inmigrate' }),
        queryMigrate: () => ({ status: migration.state }),
        quit: () => (quit = true),
      }),
      'tcp::0',
      { allowInsecureTcp: true },
    )
    cleanups.add(() => server.close())
    const port = Number(server.uri.split(':').at(-1))
    const client = await QmpClient.connect({ host: '127.0.0.1', port })
    migration.become('setup')
    migration.emit('dirty-sync', 1)
    assert.deepEqual(await client.execute('query-migrate'), { status: 'setup' })
    assert.match(await client.refusal('stop'), /^CommandNotFound/)
    await client.execute('quit')
    assert.equal(quit, true)
    await server.close('host-qmp-quit')
    migration.become('failed')
    await client.told('SHUTDOWN')
    assert.deepEqual(
      client.events.map(({ event, data }) => [event, data]),
      [
        ['MIGRATION', { status: 'setup' }],
        ['MIGRATION_PASS', { pass: 1 }],
        ['SHUTDOWN', { guest: false, reason: 'host-qmp-quit' }],
      ],
    )
    assert.equal(migration.listenerCount('state') + migration.listenerCount('dirty-sync'), 0)
  })
})

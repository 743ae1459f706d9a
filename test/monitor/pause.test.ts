import assert from 'node:assert/strict'
import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import type { MigrationState } from '../../src/migration/states.js'
import type { Monitor } from '../../src/monitor/index.js'
import { monitorOver, type } from './support.js'

async function reached(monitor: Monitor, state: MigrationState): Promise<void> {
  while ((monitor.source ?? monitor.destination)?.state !== state) await once(monitor, 'migration')
}

/** Two guests in a postcopy that takes seconds. */
async function inPostcopy(): Promise<{ here: Monitor; there: Monitor }> {
  const here = await monitorOver({ ram: '16M', workload: 'random:writes=30,rate=200' })
  const there = await monitorOver({ ram: '16M', incoming: true })
  here.cont()
  for (const end of [here, there]) await end.setCapability('postcopy-ram', true)
  await here.setParameters({ 'max-postcopy-bandwidth': 50_000 })
  here.migrate(await there.migrateIncoming('tcp:127.0.0.1:0'))
  here.startPostcopy()
  await Promise.all([here, there].map((end) => reached(end, 'postcopy-active')))
  return { here, there }
}

describe('migrate_pause', () => {
  for (const who of ['source', 'destination'] as const) {
    it(`at the ${who} pauses both ends, and nothing is lost there`, async () => {
      const { here, there } = await inPostcopy()
      const { counters } = there.destination ?? assert.fail()
      // Faults are not counted while the migration is paused.
      while (counters.faults === 0) await sleep(5)
      assert.equal(await type(who === 'source' ? here : there, 'migrate_pause'), '')
      await Promise.all([here, there].map((end) => reached(end, 'postcopy-paused')))
      const asked = (who === 'source' ? here.source : there.destination)?.error
      assert.equal(asked?.code, 'ERR_CONNECTION_PAUSED')
      assert.deepEqual(here.queryStatus(), { running: false, status: 'finish-migrate' })
      assert.deepEqual(there.queryStatus(), { running: true, status: 'running' })
      await assert.rejects(type(here, 'cont'), { code: 'ERR_STATE_GUEST' })
      await assert.rejects(type(here, 'quit'), { code: 'ERR_STATE_PAGES_OWED' })

      // The memory is still armed: the vCPU runs until it touches a missing page.
      const [before, after] = [there.queryCpus(), (await sleep(300), there.queryCpus())]
      assert(after.some(({ touching }) => touching !== undefined && touching.sinceUs > 100_000))
      assert.equal(after[0]?.failedChecks, 0)
      assert(after[0].touches - (before[0]?.touches ?? 0) < 60)
    })
  }

  it('leaves a guest that is lost at the destination to cont -f at the source', async () => {
    const { here, there } = await inPostcopy()
    here.pause()
    await Promise.all([here, there].map((end) => reached(end, 'postcopy-paused')))
    await assert.rejects(type(here, 'cont'), { code: 'ERR_STATE_GUEST', message: /cont -f/ })
    await type(here, 'cont -f')
    assert.deepEqual(here.queryStatus(), { running: true, status: 'running' })
    await assert.rejects(type(here, 'migrate -r tcp:127.0.0.1:1'), { code: 'ERR_STATE_RECOVER' })
    await type(here, 'stop')
    assert.match(await type(here, 'verify'), /^content: good/)
  })

  it('is refused before postcopy, after it, and twice', async () => {
    const { here, there } = await inPostcopy()
    const idle = await monitorOver()
    const refusal = { code: 'ERR_STATE_PAUSE', message: /postcopy-active/ }
    await assert.rejects(type(idle, 'migrate_pause'), refusal)
    here.pause()
    await Promise.all([here, there].map((end) => reached(end, 'postcopy-paused')))
    for (const end of [here, there]) await assert.rejects(type(end, 'migrate_pause'), refusal)
  })
})

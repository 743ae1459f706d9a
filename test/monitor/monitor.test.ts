import assert from 'node:assert/strict'
import { once } from 'node:events'
import { isFinal } from '../../src/migration/states.js'
import type { Monitor } from '../../src/monitor/index.js'
import { FakeDestination } from '../support/fake-peer.js'
import { monitorOver, type } from './support.js'

const postcopy = 'migrate_set_capability postcopy-ram on'

async function pair(options: { capability?: boolean } = {}) {
  const here = await monitorOver({ workload: 'random:writes=30,rate=20000' })
  const there = await monitorOver({ incoming: true })
  here.cont()
  if (options.capability !== false) for (const end of [here, there]) await type(end, postcopy)
  const uri = await there.migrateIncoming('tcp:127.0.0.1:0')
  return { here, there, uri }
}

async function ended(monitor: Monitor): Promise<void> {
  for (;;) {
    const { source, destination } = monitor
    const state = (source ?? destination)?.state ?? 'none'
    if (isFinal(state)) return
    await once(monitor, 'migration')
  }
}

/** Pages of the queue and of the block device. */
const LOADED_PAGES = 12

describe('the monitor', () => {
  it('shows a postcopy migration with the names of query-migrate', async () => {
    const { here, there, uri } = await pair()
    const running: boolean[] = []
    there.on('running', (now) => running.push(now))
    here.migrate(uri)
    here.startPostcopy()
    await Promise.all([ended(here), ended(there)])
    const source = here.queryMigrate()
    assert.equal(source.status, 'completed')
    const { ram } = source
    assert(ram !== undefined)
    assert.equal(
      ram.total,
      here.machine.blocks.reduce((sum, block) => sum + block.lengthBytes, 0),
    )
    assert.equal(ram.remaining, 0)
    assert.equal(ram.normal * 4096, ram['normal-bytes'])
    assert.equal(ram['precopy-bytes'], 0)
    // What loading the devices reads while the guest is stopped.
    assert(ram['downtime-bytes'] > LOADED_PAGES * 4096)
    assert(ram['postcopy-bytes'] + ram['downtime-bytes'] >= ram['normal-bytes'])
    assert(ram.transferred > ram['postcopy-bytes'])
    for (const key of ['total-time', 'setup-time', 'downtime'] as const) {
      assert(Number.isInteger(source[key]), key)
    }
    const arrived = there.queryMigrate()
    const [address] = arrived['socket-address'] ?? []
    assert.equal(address?.type === 'inet' ? `tcp:${address.host}:${address.port}` : '', uri)
    const pages = arrived['x-pages']
    assert.equal(pages?.precopied, LOADED_PAGES)
    assert.equal(pages.discarded, ram.total / 4096 - LOADED_PAGES)
    assert.equal(pages.requested + pages.pushed, pages.discarded)
    assert.equal(pages.requested, ram['postcopy-requests'])
    const latency = arrived['x-postcopy-latency-us']
    assert.equal(
      latency?.count,
      arrived['postcopy-latency-dist']?.reduce((a, b) => a + b, 0),
    )
    assert.equal(arrived['postcopy-vcpu-blocktime'], undefined, 'a capability of postcopy')
    assert.deepEqual(running, [true])
    assert.match(await type(there, 'info page_arrivals 16'), /^ram: 2048 pages: 12 precopied/)
  })

  it('counts the pages of a plain precopy as precopied', async () => {
    const { here, there, uri } = await pair({ capability: false })
    const text = await type(here, 'migrate_set_parameter max-bandwidth 0', `migrate ${uri}`)
    assert.match(text, /^Migration status: completed\ntotal time: \d+ ms\n/)
    await ended(there)
    assert.deepEqual(there.queryMigrate()['x-pages'], {
      precopied: (here.queryMigrate().ram?.total ?? 0) / 4096,
      requested: 0,
      pushed: 0,
      discarded: 0,
    })
  })

  it('refuses commands that need a guest which is not here', async () => {
    const { here, there, uri } = await pair()
    assert.deepEqual(there.queryStatus(), { running: false, status: 'inmigrate' })
    for (const line of ['cont', 'stop']) {
      await assert.rejects(type(there, line), {
        code: 'ERR_STATE_GUEST',
        message: /no guest has been received/,
      })
    }
    await assert.rejects(type(there, `migrate ${uri}`), /no guest has been received yet/)
    await assert.rejects(type(there, `migrate_incoming ${uri}`), { code: 'ERR_STATE_INCOMING' })
    await assert.rejects(type(here, 'migrate_start_postcopy'), { code: 'ERR_STATE_NO_MIGRATION' })

    await type(here, 'migrate_set_parameter max-bandwidth 1M', `migrate -d ${uri}`)
    while (here.source?.state !== 'active') await once(here, 'migration')
    await assert.rejects(type(here, `migrate ${uri}`), { code: 'ERR_STATE_MIGRATING' })
    await assert.rejects(type(here, 'migrate_set_capability return-path on'), {
      code: 'ERR_STATE_MIGRATING',
    })
    assert.equal(here.queryStatus().status, 'running')

    await type(here, 'migrate_start_postcopy')
    await Promise.all([ended(here), ended(there)])
    assert.deepEqual(here.queryStatus(), { running: false, status: 'postmigrate' })
    await assert.rejects(type(here, 'cont'), {
      code: 'ERR_STATE_GUEST',
      message: /destination has confirmed/,
    })
    await assert.rejects(type(here, `migrate ${uri}`), { code: 'ERR_STATE_GUEST' })
    await type(here, 'migrate_start_postcopy', 'migrate_cancel')
    assert.equal(there.queryStatus().status, 'running')
  })

  it('cancels in precopy, and the guest continues', async () => {
    const { here, there, uri } = await pair()
    await type(here, 'migrate_set_parameter max-bandwidth 1M', `migrate -d ${uri}`)
    while (here.source?.state !== 'active') await once(here, 'migration')
    await type(here, 'migrate_cancel')
    await Promise.all([ended(here), ended(there)])
    const info = here.queryMigrate()
    assert.deepEqual(Object.keys(info).sort(), ['error-desc', 'status'])
    assert.equal(info.status, 'cancelled')
    assert.equal(here.queryStatus().status, 'running')
    assert.equal(there.queryMigrate().status, 'failed')
  })

  it('migrates again after a failure', async () => {
    const { here, there, uri } = await pair()
    assert.match(await type(here, 'migrate tcp:127.0.0.1:1'), /status: failed\nerror: .*REFUSED/)
    assert.match(await type(here, `migrate ${uri}`), /Migration status: completed/)
    await ended(there)
  })

  it('migrates a received guest to a third process', async () => {
    const { here, there, uri } = await pair()
    const third = await monitorOver({ incoming: true })
    await type(third, postcopy)
    await type(here, `migrate ${uri}`)
    await ended(there)
    const next = await third.migrateIncoming('tcp:127.0.0.1:0')
    assert.match(await type(there, `migrate ${next}`), /Migration status: completed/)
    await ended(third)
    assert.match(await type(third, 'stop', 'verify'), /^content: good/)
  })

  it('takes a migrated guest back only by force', async () => {
    const { here, there, uri } = await pair()
    await type(here, `migrate ${uri}`)
    await ended(there)
    await type(there, 'stop')
    await assert.rejects(type(here, 'cont'), /cont -f takes the guest back/)
    await type(here, 'cont -f')
    assert.equal(here.queryStatus().status, 'running')
  })

  it('takes the complete guest back by force from a paused migration whose destination has ended', async () => {
    const here = await monitorOver({ workload: 'random:writes=30,rate=20000' })
    here.cont()
    const peer = await FakeDestination.listen()
    await type(here, postcopy, `migrate -d ${peer.uri}`, 'migrate_start_postcopy')
    await peer.heard('packaged')
    peer.reset()
    await here.outgoingEnd()
    assert.equal(here.source?.state, 'postcopy-paused')
    await assert.rejects(type(here, 'cont'), /cont -f takes the guest back/)
    await type(here, 'cont -f')
    assert.equal(here.queryStatus().status, 'running')
    await assert.rejects(type(here, `migrate -r ${peer.uri}`), { code: 'ERR_STATE_RECOVER' })
    const there = await monitorOver({ incoming: true })
    await type(there, postcopy)
    const uri = await there.migrateIncoming('tcp:127.0.0.1:0')
    assert.match(await type(here, `migrate ${uri}`), /Migration status: completed/)
    await ended(there)
    assert.match(await type(there, 'stop', 'verify'), /^content: good/)
  })

  it('sets capabilities of a listening destination without closing its port', async () => {
    const { there, uri } = await pair({ capability: false })
    await type(there, postcopy)
    assert.equal(there.destination?.uri, uri)
    assert.equal(there.destination.capabilities['postcopy-ram'], true)
  })
})

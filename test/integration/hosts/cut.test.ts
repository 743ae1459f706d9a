/** The link between two hosts is cut: at once, at a byte, or without notice to either end. */
import assert from 'node:assert/strict'
import { requires } from '../../support/requires.js'
import {
  assertWorks,
  begin,
  both,
  bothRest,
  finish,
  guestsOn,
  inPostcopy,
  isRunning,
  linkTo,
  outcomeIn,
  qmpOf,
  recover,
  touchesOf,
  twoHosts,
  withNewDestination,
} from '../../support/two-hosts.js'

/** Both ends detect silence after this many ms; the kernel's keepalive works in whole seconds. */
const noticed = { 'x-silence-timeout': 1000 } as const

describe('a link between two hosts', () => {
  before(function () {
    requires(this, 'root', 'ip')
  })

  it('that is cut before the switch leaves the guest at its source, where it can migrate later', async () => {
    const hosts = twoHosts()
    const parameters = { ...noticed, 'max-bandwidth': '1M' }
    const pair = await guestsOn(hosts, { parameters })
    const { source, destination } = pair
    await begin(pair)
    await both(pair, 'active')
    hosts.cutLink()
    await assertWorks(source)
    await both(pair, 'failed')
    await assertWorks(source)
    assert.equal(await isRunning(destination), false)
    hosts.healLink()
    await source.command('migrate_set_parameter max-bandwidth 0')
    await begin(pair)
    await source.command('migrate_start_postcopy')
    await finish(pair)
  })

  it('that is cut before the source is recognized leaves the destination listening', async () => {
    const hosts = twoHosts()
    const link = await linkTo(hosts)
    const pair = await guestsOn(hosts)
    await link.change({ cutAfterBytes: 50 })
    await begin(pair, link)
    await pair.source.reached('source', ['failed'])
    await assertWorks(pair.source)
    await link.change({ cutAfterBytes: Infinity })
    await pair.source.migrate(link.uri)
    await pair.source.command('migrate_start_postcopy')
    await finish(pair)
  })

  it('that is cut at any byte around the switch leaves one guest with every page', async () => {
    const hosts = twoHosts()
    const link = await linkTo(hosts)
    let pair = await guestsOn(hosts, { parameters: { 'max-bandwidth': '1M' } })
    const outcomes: unknown[] = []
    for (let bytes = 50; outcomes.at(-1) !== 'paused'; bytes *= 4) {
      await link.change({ cutAfterBytes: bytes })
      await begin(pair, link)
      await pair.source.command('migrate_start_postcopy')
      await bothRest(pair)
      const outcome = await outcomeIn(pair)
      outcomes.push(outcome)
      if (outcome === 'paused') break
      assert(outcome === 'stayed' || outcome === 'stopped', JSON.stringify(outcomes))
      // The source cannot know that the destination failed while it loaded the devices.
      if (outcome === 'stopped') await pair.source.command('cont -f')
      if (outcome === 'stopped' || !pair.destination.isAlive) pair = await withNewDestination(pair)
      await assertWorks(pair.source)
    }
    assert.equal(outcomes[0], 'stayed')
    await link.change({ cutAfterBytes: Infinity })
    await recover(pair, link)
    await finish(pair)
  })

  it('that is cut after the switch pauses both ends, and QMP commands recover the migration', async () => {
    const hosts = twoHosts()
    const common = ['--ram', '16M', '--capability', 'postcopy-ram']
    const workload = ['--workload', 'random:writes=50,rate=200']
    const [source, destination] = await Promise.all([
      qmpOf(hosts.a, 'source', [...common, ...workload]),
      qmpOf(hosts.b, 'destination', [...common, '--incoming', 'defer']),
    ])
    for (const end of [source, destination]) {
      await end.execute('migrate-set-parameters', { ...noticed, 'max-postcopy-bandwidth': 100_000 })
    }
    await destination.execute('migrate-incoming', { uri: `tcp:${hosts.b.address}:4444` })
    await source.execute('migrate', { uri: `tcp:${hosts.b.address}:4444` })
    await source.execute('migrate-start-postcopy')
    for (const end of [source, destination]) await end.reached('postcopy-active')
    hosts.cutLink()
    for (const end of [source, destination]) await end.reached('postcopy-paused')
    const running = async (end: typeof source): Promise<unknown> =>
      ((await end.execute('query-status')) as { running: boolean }).running
    assert.deepEqual([await running(source), await running(destination)], [false, true])
    hosts.healLink()
    await destination.execute('migrate-recover', { uri: `tcp:${hosts.b.address}:4445` })
    await source.execute('migrate', { uri: `tcp:${hosts.b.address}:4445`, resume: true })
    for (const end of [source, destination]) await end.reached('postcopy-active')
    await source.execute('migrate-set-parameters', { 'max-postcopy-bandwidth': 0 })
    for (const end of [source, destination]) await end.reached('completed')
  })

  it('that is cut without a reset is detected by idle ends', async () => {
    const pair = await inPostcopy({
      workload: 'idle',
      parameters: { ...noticed, 'max-postcopy-bandwidth': 1 },
    })
    pair.hosts.cutLink()
    await both(pair, 'postcopy-paused')
    pair.hosts.healLink()
    await pair.source.command('migrate_set_parameter max-postcopy-bandwidth 0')
    await recover(pair)
    await both(pair, 'completed')
    await pair.destination.command('stop')
    assert.equal((await pair.destination.verify()).verified, true)
  })

  it('that is restored in time lets a migration continue without a pause', async () => {
    const pair = await inPostcopy()
    const seen: string[] = []
    for (const end of [pair.source, pair.destination]) {
      end.on('migration', (state) => seen.push(state))
    }
    pair.hosts.cutLink()
    const { destination } = pair
    // Until both vCPUs wait for pages that cannot arrive.
    for (let before = -1, now = 0; now !== before;) {
      before = now
      await new Promise((resolve) => setTimeout(resolve, 100))
      now = await touchesOf(destination)
    }
    pair.hosts.healLink()
    await finish(pair)
    assert.deepEqual(seen, ['completed', 'completed'])
  })

  it('that is cut repeatedly leaves the guest working, and intact at the end', async () => {
    const pair = await guestsOn(twoHosts())
    const link = await linkTo(pair.hosts)
    await begin(pair, link)
    await pair.source.command('migrate_start_postcopy')
    for (let cuts = 0; cuts < 6; cuts += 1) {
      await both(pair, 'postcopy-active')
      await assertWorks(pair.destination)
      await link.cut()
      await both(pair, 'postcopy-paused')
      assert.equal(await isRunning(pair.destination), true)
      assert.equal(await isRunning(pair.source), false)
      await recover(pair, link)
    }
    await both(pair, 'postcopy-active')
    await finish(pair)
  })
})

describe('a process that is stopped for a while', () => {
  before(function () {
    requires(this, 'root', 'ip')
  })

  it('does not lose a page, as a source whose guest waits for pages', async () => {
    const { source, destination, ...rest } = await inPostcopy()
    process.kill(source.pid, 'SIGSTOP')
    // Until a vCPU waits for a page of the stopped process.
    for (let waits = false; !waits;) {
      const cpus = (await destination.queryCpus()).value
      waits = cpus.some(({ touching }) => (touching?.sinceUs ?? 0) > 200_000)
    }
    assert.equal(destination.state('destination'), 'postcopy-active')
    process.kill(source.pid, 'SIGCONT')
    await assertWorks(destination)
    await finish({ source, destination, ...rest })
  })
})

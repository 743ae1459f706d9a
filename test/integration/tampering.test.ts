/**
 * Changes the stream between our two ends, one thing at a time: the guest's own check, or an error
 * that names the change, must detect each of them.
 */
import assert from 'node:assert/strict'
import type { Guest } from '../../src/guest/index.js'
import { eventually } from '../guest/support.js'
import {
  type Pair,
  ended,
  guestPair,
  noConvergence,
  postcopy,
  startPair,
} from '../support/migration.js'
import {
  type CutPoint,
  type Tampered,
  type Tampering,
  startProxy,
} from '../support/tampering-proxy.js'

/** Reads and checks only, so that no write repairs a page. */
const READING = 'random:writes=0,rate=50000'
/** Writes each page again and again, so that it is sent in precopy and in postcopy. */
const WRITING = 'sweep:hot=2M,writes=100,rate=50000'

interface Outcome extends Pair<Guest> {
  readonly tampered: Promise<Tampered>
}

/**
 * Migrates a running guest through a proxy: by postcopy at once, or after one round of precopy.
 */
async function migrateThrough(
  tampering: Tampering,
  { workload, now }: { workload: string; now: boolean },
): Promise<Outcome> {
  const { here, there } = await guestPair({ ram: '4M', vcpus: 2, workload })
  // Then loading needs pages of postcopy, and the guest does not run before the first of them.
  Object.defineProperty(here, 'loadRanges', { value: [] })
  here.start()
  let tampered: Promise<Tampered> = Promise.reject(new Error('no proxy'))
  tampered.catch(() => undefined)
  const pair = await startPair(here, there, {
    capabilities: postcopy,
    parameters: { ...noConvergence, 'x-postcopy-after-rounds': 1 },
    via: async (uri) => {
      const proxy = await startProxy(uri, tampering)
      tampered = proxy.tampered
      return proxy.uri
    },
  })
  if (now) pair.source.startPostcopy()
  await Promise.all([ended(pair.source), ended(pair.destination)])
  return { ...pair, tampered }
}

/** The check reports each of these pages, with one of these verdicts. */
async function assertFound(
  { there, tampered, source, destination }: Outcome,
  ...verdicts: string[]
): Promise<void> {
  assert.deepEqual([source.state, destination.state], ['completed', 'completed'])
  const { offsets } = await tampered
  await there.stop()
  const report = await there.verify()
  assert.equal(report.verified, false)
  for (const offset of offsets) {
    const found = report.findings.find(
      ({ block, offsetBytes }) => block === 'ram' && offsetBytes - (offsetBytes % 4096) === offset,
    )
    assert(found !== undefined, `nothing found at ${offset}`)
    assert(verdicts.includes(found.verdict), `${found.verdict} at ${offset}`)
  }
}

/** The guest continues at the source, whole. */
async function assertGoesOn(guest: Guest): Promise<void> {
  assert.equal(guest.running, true)
  const before = guest.vcpuStats().map(({ touches }) => touches)
  await eventually('the guest continues', () =>
    guest.vcpuStats().every(({ touches }, vcpu) => touches > (before[vcpu] ?? 0)),
  )
  await guest.stop()
  assert.equal((await guest.verify()).verified, true)
}

/** At most two vCPUs wait for a page that will not arrive, and no vCPU has seen a wrong one. */
async function assertParked(guest: Guest): Promise<void> {
  const waits = () => guest.vcpuStats().filter(({ touching }) => (touching?.sinceUs ?? 0) > 100_000)
  await eventually('a vCPU waits for its page', () => waits().length > 0)
  assert.equal(
    guest.vcpuStats().reduce((sum, { failedChecks }) => sum + failedChecks, 0),
    0,
  )
}

describe('a stream that is changed in transit', () => {
  for (const now of [false, true]) {
    const how = now ? 'at once by postcopy' : 'after a round of precopy'
    it(`is complete if the proxy changes nothing, ${how}`, async () => {
      const { source, there } = await migrateThrough({ type: 'none' }, { workload: WRITING, now })
      await there.stop()
      const report = await there.verify()
      assert.deepEqual(report.findings, [])
      assert.equal(report.verified, true)
      assert(source.counters.discardedPages > 0, 'through postcopy')
    })
  }

  it('with a flipped bit in a precopied page is detected by the guest', async () => {
    const tampering = { type: 'flip bit', phase: 'precopy' } as const
    const outcome = await migrateThrough(tampering, { workload: READING, now: false })
    await assertFound(outcome, 'torn', 'corrupt')
  })

  it('with a flipped bit in a page of postcopy is detected by the guest', async () => {
    const tampering = { type: 'flip bit', phase: 'postcopy' } as const
    const outcome = await migrateThrough(tampering, { workload: READING, now: true })
    await assertFound(outcome, 'torn', 'corrupt')
  })

  it('with two swapped pages is detected by the guest, for both pages', async () => {
    const outcome = await migrateThrough({ type: 'swap pages' }, { workload: READING, now: true })
    await assertFound(outcome, 'misplaced')
  })

  it('with an old version of a page is detected by the guest', async () => {
    const outcome = await migrateThrough({ type: 'replay page' }, { workload: WRITING, now: false })
    await assertFound(outcome, 'stale', 'torn', 'corrupt')
  })

  it('with a missing page is detected as incomplete, and both ends pause', async () => {
    const outcome = await migrateThrough({ type: 'drop page' }, { workload: READING, now: true })
    const { source, destination, there, tampered } = outcome
    assert.deepEqual([source.state, destination.state], ['postcopy-paused', 'postcopy-paused'])
    assert.equal(destination.error?.code, 'ERR_PEER_INCOMPLETE')
    const { offsets } = await tampered
    assert.match(
      destination.error.message,
      new RegExp(`1 pages of "ram".* at ${String(offsets[0])}`),
    )
    assert.equal(there.running, true)
  })

  it('with a missing discard of pages never sent is refused, and the guest stays at the source', async () => {
    const outcome = await migrateThrough({ type: 'drop discard' }, { workload: READING, now: true })
    const { source, destination, here, there } = outcome
    assert.deepEqual([source.state, destination.state], ['failed', 'failed'])
    assert.equal(destination.error?.code, 'ERR_PEER_DISCARD')
    assert.equal(source.error?.code, 'ERR_PEER_REFUSED')
    assert.equal(there.running, false)
    await assertGoesOn(here)
  })

  it('with a missing discard of pages written again is detected by a device or by the second copy', async () => {
    const outcome = await migrateThrough(
      { type: 'drop discard' },
      { workload: WRITING, now: false },
    )
    const { source, destination, here } = outcome
    assert.match(destination.error?.code ?? '', /^ERR_(PEER_PAGE|DEVICE_STATE)$/)
    assert.equal(here.running, destination.state === 'failed')
    assert.equal(source.state, destination.state)
  })

  for (const idstr of ['vcpu', 'queue', 'block', 'globalstate']) {
    it(`with a flipped bit in the state of the device ${idstr} is refused`, async () => {
      const tampering = { type: 'flip device bit', idstr } as const
      const outcome = await migrateThrough(tampering, { workload: READING, now: true })
      const { source, destination, here, there } = outcome
      assert.equal(destination.state, 'failed')
      assert.equal(destination.error?.code, 'ERR_DEVICE_STATE')
      assert.equal(source.state, 'failed')
      assert.equal(source.error?.code, 'ERR_PEER_REFUSED')
      assert.equal(there.running, false)
      await assertGoesOn(here)
    })
  }

  it('with a missing SHUT leaves the source paused, and one guest running', async () => {
    const outcome = await migrateThrough({ type: 'swallow SHUT' }, { workload: READING, now: true })
    const { source, destination, here, there } = outcome
    assert.deepEqual([source.state, destination.state], ['postcopy-paused', 'completed'])
    assert.deepEqual([here.running, there.running], [false, true])
    await there.stop()
    assert.equal((await there.verify()).verified, true)
  })

  const cuts: [CutPoint, string][] = [
    ['before package', 'failed'],
    ['in package', 'failed'],
    ['after package', 'failed'],
    [200, 'postcopy-paused'],
    [700, 'postcopy-paused'],
  ]
  for (const [at, there] of cuts) {
    const where =
      typeof at === 'number' ? `${at} pages after the package` : at.replace(' ', ' the ')
    it(`that breaks ${where} leaves at most one guest, and every page`, async () => {
      const outcome = await migrateThrough({ type: 'cut', at }, { workload: READING, now: true })
      const { source, destination, here } = outcome
      assert.equal(destination.state, there)
      assert.equal(
        source.state,
        'postcopy-paused',
        'it cannot know how much of the package was received',
      )
      assert.equal(here.running, false)
      assert.equal(outcome.there.running, there === 'postcopy-paused')
      if (there === 'postcopy-paused') await assertParked(outcome.there)
      here.start()
      await assertGoesOn(here)
    })
  }
})

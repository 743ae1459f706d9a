/** Real migrations only take steps that the model can take. */
import assert from 'node:assert/strict'
import { isAtRest } from '../../src/migration/states.js'
import { LinkProxy } from '../../src/testing/index.js'
import { type Exploration, forgetSpaces, verdictOf } from './spaces.js'
import { type Sight, firstStrange } from './trace.js'
import { cleanups } from '../support/cleanup.js'
import {
  type Pair,
  type PairOptions,
  postcopy,
  reached,
  standstill,
  startPair,
} from '../support/migration.js'
import { TestMachine } from '../support/test-machine.js'

const stuck = { 'max-postcopy-bandwidth': 1 } as const

interface Watched extends Pair<TestMachine> {
  /** What was seen, from before the first state of the source on. */
  readonly sights: Sight[]
}

/** Records the states of both ends at every change that one of them reports. */
async function watchedPair(options: PairOptions): Promise<Watched> {
  const here = new TestMachine({ blocks: { ram: 2 ** 21 } })
  here.fill()
  here.start()
  const pair = await startPair(here, new TestMachine({ blocks: { ram: 2 ** 21 } }), options)
  const { source, destination, there } = pair
  const sights: Sight[] = []
  const look = (): void => {
    const sight = {
      source: source.state,
      destination: destination.state,
      runsAtSource: here.running,
      runsAtDestination: there.running,
    }
    assert(!sight.runsAtSource || !sight.runsAtDestination, 'never two')
    sights.push(sight)
  }
  look()
  for (const end of [source, destination]) end.on('state', look).on('guest', look)
  return { ...pair, sights }
}

/** Waits until neither end takes a further step by itself. */
async function bothRest({ source, destination }: Watched): Promise<void> {
  for (const end of [source, destination]) {
    while (!isAtRest(end.state)) await new Promise((resolve) => end.once('state', resolve))
  }
}

const anything = 'postcopy and precopy, workers that die, processes that are killed'

function assertPossible({ sights }: Watched, exploration: Exploration = anything): void {
  const { space } = verdictOf(exploration)
  const strange = firstStrange(space, sights)
  const seen = sights.slice(0, (strange ?? 0) + 1)
  assert.equal(strange, undefined, `the model cannot do this: ${JSON.stringify(seen, null, 1)}`)
}

/** A pair of ends with a link between them that can be cut. */
async function throughLink(options: PairOptions, cutAfterBytes?: number) {
  let link: LinkProxy | undefined
  const pair = await watchedPair({
    ...options,
    via: async (uri) => {
      link = await LinkProxy.listen(uri, cutAfterBytes === undefined ? {} : { cutAfterBytes })
      cleanups.add(() => link?.close())
      return link.uri
    },
  })
  assert(link !== undefined)
  return { pair, link }
}

async function intoPostcopy({ source, destination }: Watched): Promise<void> {
  source.startPostcopy()
  await Promise.all([source, destination].map((end) => reached(end, 'postcopy-active')))
}

after(forgetSpaces)

describe('the model can do what real ends do', () => {
  it('in postcopy', async () => {
    const pair = await watchedPair({ capabilities: postcopy })
    pair.source.startPostcopy()
    await bothRest(pair)
    assert.equal(pair.sights.at(-1)?.runsAtDestination, true)
    assertPossible(pair)
  })

  it('in precopy', async () => {
    const pair = await watchedPair({ capabilities: postcopy })
    await bothRest(pair)
    assert.equal(pair.source.state, 'completed')
    assertPossible(pair)
  })

  it('when it is cancelled', async () => {
    const pair = await watchedPair({ capabilities: postcopy, parameters: standstill })
    await reached(pair.source, 'active')
    pair.source.cancel()
    await bothRest(pair)
    assert.equal(pair.sights.at(-1)?.runsAtSource, true)
    assertPossible(pair)
  })

  for (const who of ['source', 'destination'] as const) {
    it(`when the ${who} pauses, and both recover`, async () => {
      const pair = await watchedPair({ capabilities: postcopy, parameters: stuck })
      await intoPostcopy(pair)
      pair[who].pause()
      await bothRest(pair)
      const uri = await pair.destination.recover()
      pair.source.setParameters({ 'max-postcopy-bandwidth': 0 })
      await pair.source.recover(uri)
      await Promise.all([pair.source.done, pair.destination.done])
      assertPossible(pair)
    })
  }

  it('when the connection is cut again and again, also while it recovers', async () => {
    const { pair, link } = await throughLink({ capabilities: postcopy, parameters: stuck })
    await intoPostcopy(pair)
    await link.cut()
    await bothRest(pair)
    await link.change({ target: await pair.destination.recover() })
    for (const cutAfterBytes of [0, 5, 30]) {
      await link.change({ cutAfterBytes })
      await pair.source.recover()
      await reached(pair.source, 'postcopy-paused')
      // Without a whole request the destination does not accept its
      // source, and continues to listen.
      if (cutAfterBytes <= 5) assert.equal(pair.destination.state, 'postcopy-recover-setup')
    }
    // A reset may have dropped the request before it was read.
    if (pair.destination.state === 'postcopy-recover-setup') pair.destination.pause()
    await reached(pair.destination, 'postcopy-paused')
    await link.change({ target: await pair.destination.recover() })
    await link.change({ cutAfterBytes: Infinity })
    pair.source.setParameters({ 'max-postcopy-bandwidth': 0 })
    await pair.source.recover()
    await Promise.all([pair.source.done, pair.destination.done])
    assertPossible(pair)
  })

  it('when the connection is cut before the switch', async () => {
    const { pair } = await throughLink({ capabilities: postcopy }, 100_000)
    await bothRest(pair)
    assert.deepEqual([pair.source.state, pair.destination.state], ['failed', 'failed'])
    assertPossible(pair)
  })

  it('when a device refuses its state', async () => {
    const pair = await watchedPair({ capabilities: postcopy, parameters: standstill })
    pair.there.loadDevice = () => {
      throw new Error('not this one')
    }
    pair.source.startPostcopy()
    await bothRest(pair)
    assert.deepEqual([pair.source.state, pair.destination.state], ['failed', 'failed'])
    assertPossible(pair)
  })
})

describe('the model can do what real ends do if the machine does not start', () => {
  for (const capabilities of [postcopy, { 'return-path': true }]) {
    it(`with ${Object.keys(capabilities).join()}`, async () => {
      const pair = await watchedPair({ capabilities })
      pair.there.resumeAfterLoad = () => {
        pair.there.start()
        throw new Error('no vCPU starts')
      }
      if ('postcopy-ram' in capabilities) pair.source.startPostcopy()
      await bothRest(pair)
      assert.deepEqual([pair.source.state, pair.destination.state], ['completed', 'completed'])
      assertPossible(pair, 'a machine that does not start at the destination, and workers that die')
    })
  }
})

describe('the model cannot do', () => {
  const sight = (one: Partial<Sight>): Sight => ({
    source: 'postcopy-active',
    destination: 'postcopy-active',
    runsAtSource: false,
    runsAtDestination: true,
    ...one,
  })
  for (const [what, sights] of [
    ['two at once', [sight({}), sight({ runsAtSource: true })]],
    ['a way back', [sight({ source: 'postcopy-paused' }), sight({ source: 'active' })]],
    [
      'a guest that runs at both ends in turn',
      [sight({}), sight({ source: 'failed', runsAtSource: true, runsAtDestination: false })],
    ],
  ] as const) {
    it(what, () => {
      const { space } = verdictOf(anything)
      assert.equal(firstStrange(space, sights), 1)
    })
  }
})

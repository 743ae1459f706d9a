/** What a source reports as the location of its guest. */
import assert from 'node:assert/strict'
import { LinkProxy } from '../../src/testing/index.js'
import { cleanups } from '../support/cleanup.js'
import { type PairOptions, ended, postcopy, reached, startPair } from '../support/migration.js'
import { TestMachine } from '../support/test-machine.js'

const notKnown = /whether it runs there is not known/
const stuck = { 'max-postcopy-bandwidth': 1 } as const

/** A migration through a link. With `dropsAnswers`, only the first answer arrives. */
async function throughLink(options: PairOptions, dropsAnswers: boolean) {
  const here = new TestMachine({ blocks: { ram: 2 ** 21 } })
  here.fill()
  here.start()
  const there = new TestMachine({ blocks: { ram: 2 ** 21 } })
  let link: LinkProxy | undefined
  const pair = await startPair(here, there, {
    ...options,
    via: async (uri) => {
      link = await LinkProxy.listen(uri)
      cleanups.add(() => link?.close())
      if (dropsAnswers) await link.change({ dropsAnswers: 'after-first' })
      return link.uri
    },
  })
  assert(link !== undefined)
  return { ...pair, link }
}

describe('a source', () => {
  it('reports an unknown guest location until the switch is confirmed', async () => {
    const { source, destination, link, here, there } = await throughLink(
      { capabilities: postcopy, parameters: stuck },
      true,
    )
    assert.equal(source.guestLocation, 'here')
    source.startPostcopy()
    await reached(destination, 'postcopy-active')
    await reached(source, 'postcopy-device')
    await link.cut()
    await Promise.all([ended(source), ended(destination)])
    assert.deepEqual([here.running, there.running], [false, true])
    assert.deepEqual([source.guestLocation, destination.guestLocation], ['unknown', 'here'])
    assert.match(source.error?.message ?? '', notKnown)
    assert.match(source.error?.message ?? '', /info status; QMP query-status.*recover/)
    await link.change({ target: await destination.recover(), dropsAnswers: false })
    source.setParameters({ 'max-postcopy-bandwidth': 0 })
    await source.recover()
    await Promise.all([source.done, destination.done])
    assert.equal(source.guestLocation, 'elsewhere')
  })

  it('tells how to continue if every page was sent and SHUT was lost', async () => {
    const { source, destination, link } = await throughLink(
      { capabilities: postcopy, parameters: stuck },
      false,
    )
    source.startPostcopy()
    await Promise.all([source, destination].map((end) => reached(end, 'postcopy-active')))
    await link.change({ dropsAnswers: true })
    source.setParameters({ 'max-postcopy-bandwidth': 0 })
    await destination.done
    await ended(source)
    assert.deepEqual([source.state, source.guestLocation], ['postcopy-paused', 'elsewhere'])
    const told = /Every page was sent.*if its migration is completed.*this end may be closed/
    assert.match(source.error?.message ?? '', told)
    // The same after a recovery that finds no destination.
    await source.recover()
    await ended(source)
    assert.match(source.error?.message ?? '', told)
    await source.close()
  })

  it('reports an unknown guest location after an unconfirmed precopy', async () => {
    const { source, destination } = await throughLink(
      { capabilities: { 'return-path': true } },
      true,
    )
    await destination.done
    await ended(source)
    assert.deepEqual([source.state, source.guestLocation], ['failed', 'unknown'])
    assert.equal(source.error?.code, 'ERR_CONNECTION_UNCONFIRMED')
    assert.match(source.error.message, notKnown)
    assert.doesNotMatch(source.error.message, /has the whole guest/)
  })

  it('reports an unknown guest location after a precopy without a return path', async () => {
    const { source, destination } = await throughLink({}, false)
    await Promise.all([source.done, destination.done])
    assert.equal(source.guestLocation, 'unknown')
  })

  it('keeps a guest that the destination has refused', async () => {
    const here = new TestMachine()
    here.start()
    const there = new TestMachine()
    there.loadDevice = () => {
      throw new Error('not this one')
    }
    const { source, destination } = await startPair(here, there, { capabilities: postcopy })
    source.startPostcopy()
    await Promise.all([ended(source), ended(destination)])
    assert.deepEqual([source.guestLocation, destination.guestLocation], ['here', 'elsewhere'])
    assert.equal(here.running, true)
  })

  it('has the guest again after takeBack()', async () => {
    const { source, destination } = await throughLink({}, false)
    await Promise.all([source.done, destination.done])
    source.takeBack()
    assert.equal(source.guestLocation, 'here')
  })
})

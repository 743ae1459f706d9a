/**
 * A machine that does not start after its destination has claimed the
 * guest: it stays there, whole.
 */
import assert from 'node:assert/strict'
import { ended, guestPair, postcopy, startPair } from '../support/migration.js'
import { TestMachine } from '../support/test-machine.js'

const noStart = /no vCPU starts/

describe('a resumeAfterLoad that throws', () => {
  it('after some vCPUs run leaves the guest at the destination, with every page', async () => {
    const { here, there } = await guestPair({
      ram: '16M',
      vcpus: 2,
      workload: 'random:writes=50,rate=50000',
    })
    here.start()
    const resume = there.resumeAfterLoad.bind(there)
    there.resumeAfterLoad = () => {
      resume()
      throw new Error('no vCPU starts')
    }
    const { source, destination } = await startPair(here, there, { capabilities: postcopy })
    source.startPostcopy()
    await Promise.all([ended(source), ended(destination)])
    assert.deepEqual([source.state, destination.state], ['completed', 'completed'])
    assert.deepEqual([here.running, there.running], [false, false])
    await assert.rejects(destination.done, noStart)
    assert.match(String(destination.error), noStart)
    const report = await there.verify()
    assert.deepEqual([report.verified, report.failedChecks], [true, 0], 'no page was zeros')
    // Its owner starts it when it can run.
    there.start()
    await there.stop()
    assert.equal((await there.verify()).verified, true)
  })

  for (const capabilities of [postcopy, {}, { 'return-path': true }]) {
    const how = Object.keys(capabilities).join() || 'nothing'
    it(`in a precopy with ${how} leaves the guest at the destination, stopped`, async () => {
      const here = new TestMachine()
      here.fill()
      here.start()
      const there = new TestMachine()
      there.resumeAfterLoad = () => {
        there.start()
        throw new Error('no vCPU starts')
      }
      const { source, destination } = await startPair(here, there, { capabilities })
      await Promise.all([ended(source), ended(destination)])
      assert.deepEqual([source.state, destination.state], ['completed', 'completed'])
      assert.deepEqual([here.running, there.running], [false, false])
      await assert.rejects(destination.done, noStart)
    })
  }

  it('is reported when the guest is at the destination, although pages are still missing', async () => {
    const here = new TestMachine({ blocks: { ram: 2 ** 22 } })
    here.fill()
    here.start()
    const there = new TestMachine({ blocks: { ram: 2 ** 22 } })
    there.resumeAfterLoad = () => {
      throw new Error('no vCPU starts')
    }
    const { source, destination } = await startPair(here, there, {
      capabilities: postcopy,
      parameters: { 'max-postcopy-bandwidth': 1 },
    })
    const told = new Promise<string>((resolve) => {
      destination.on('state', (state, error) => {
        if (state === 'postcopy-active') resolve(String(error))
      })
    })
    source.startPostcopy()
    assert.match(await told, noStart)
    source.setParameters({ 'max-postcopy-bandwidth': 0 })
    await source.done
    await assert.rejects(destination.done, noStart)
    assert.deepEqual(there.content('ram'), here.content('ram'))
  })
})

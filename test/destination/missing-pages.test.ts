import assert from 'node:assert/strict'
import { Userfaultfd } from '../../src/kernel/index.js'
import { Parked, openUffd } from '../support/park.js'
import { pageRecord } from '../support/records.js'
import { LONG_READ_BYTES, missingPages } from './missing-pages-rig.js'
import { PAGE, discardedBlock, faultAt, injectFaults } from './support.js'

describe('MissingPages', () => {
  it('holds its userfaultfd before any memory is armed', () => {
    const { missing, uffd } = missingPages()
    missing.open()
    assert.notEqual(uffd().fd, -1)
  })

  it('is not armed before it is open', () => {
    const { missing } = missingPages()
    assert.throws(() => missing.arm(), { code: 'ERR_INTERNAL' })
  })

  it('requests the page of a real fault, and wakes the thread that gets it', async () => {
    const ram = discardedBlock(8)
    const { missing, channel, written, placement, messages, arm, faultsLogged } = missingPages({
      blocks: [ram],
    })
    arm()
    const requested = written()
    const thread = new Parked(ram.block.region, 'read', 5 * PAGE)
    await requested
    assert.deepEqual(messages(), ['ram:5'])
    assert.deepEqual(channel.spins, [9], 'polls for the page before it sleeps')
    const page = pageRecord(5, new Uint8Array(PAGE).fill(7))
    placement.records('main', ram, page, 0, page.length)
    assert.equal(await thread.result, 'done')
    missing.afterRead(page.length)
    assert.equal(faultsLogged(), 1)
  })

  it('names a block only if the request before was for another one', () => {
    const [ram, rom] = [discardedBlock(8), discardedBlock(8, 2, 'rom')]
    const { missing, session, channel, messages, arm, uffd } = missingPages({ blocks: [ram, rom] })
    arm()
    injectFaults(uffd(), ...[1, 2].map((page) => faultAt(ram, page)), faultAt(rom, 3))
    missing.afterRead(LONG_READ_BYTES)
    session.returnPath.flush()
    assert.deepEqual(messages(), ['ram:1', 'ram:2', 'rom:2+2'])
    const named = 4 + 12 + 4
    const bare = 4 + 12
    assert.equal(channel.bytes.length, named + bare + named)
  })

  it('looks for further faults after a long read only', () => {
    const ram = discardedBlock(8)
    const { missing, counters, arm, uffd } = missingPages({ blocks: [ram] })
    arm()
    injectFaults(uffd(), faultAt(ram, 1))
    missing.afterRead(LONG_READ_BYTES - 1)
    assert.equal(counters.faults, 0)
    missing.afterRead(LONG_READ_BYTES)
    assert.equal(counters.faults, 1)
  })

  it('requests awaited pages again after a pause, and none while it is paused', () => {
    const ram = discardedBlock(8)
    const { missing, session, messages, arm, uffd } = missingPages({ blocks: [ram] })
    arm()
    injectFaults(uffd(), faultAt(ram, 1))
    missing.afterRead(LONG_READ_BYTES)
    missing.keepParked(new Error('broken'))
    injectFaults(uffd(), faultAt(ram, 1), faultAt(ram, 2))
    missing.afterRead(LONG_READ_BYTES)
    session.returnPath.flush()
    assert.deepEqual(messages(), ['ram:1'])
    missing.restart()
    missing.afterRead(LONG_READ_BYTES)
    session.returnPath.flush()
    assert.deepEqual(messages(), ['ram:1', 'ram:1', 'ram:2'])
  })

  it('wakes the threads that wait when memory is disarmed, and handles no more faults', async () => {
    const ram = discardedBlock(8)
    const { missing, written, counters, arm, uffd } = missingPages({ blocks: [ram] })
    arm()
    const requested = written()
    const thread = new Parked(ram.block.region, 'read', PAGE)
    await requested
    missing.disarm()
    assert.equal(await thread.result, 'done')
    injectFaults(uffd(), faultAt(ram, 2))
    missing.afterRead(LONG_READ_BYTES)
    assert.equal(counters.faults, 1, 'no fault is handled after that')
  })

  it('takes over memory that an earlier worker has armed', async () => {
    const ram = discardedBlock(8)
    const { region, lengthBytes } = ram.block
    const uffd = openUffd({ optional: ['THREAD_ID'] })
    uffd.register(region.address, lengthBytes, { missing: true })
    const { missing, written, placement, messages } = missingPages({ blocks: [ram] })
    missing.takeOver(Userfaultfd.attach(uffd.id))
    const requested = written()
    missing.restart()
    const thread = new Parked(region, 'write', 3 * PAGE)
    await requested
    assert.deepEqual(messages(), ['ram:3'])
    const page = pageRecord(3, new Uint8Array(PAGE).fill(7))
    placement.records('main', ram, page, 0, page.length)
    assert.equal(await thread.result, 'done')
    missing.disarm()
  })
})

import assert from 'node:assert/strict'
import { Parked } from '../support/park.js'
import { RecordingChannel } from '../support/recording-channel.js'
import { PAGE as PAGE_FLAG, record } from '../support/records.js'
import { type Setting, missingPages } from './missing-pages-rig.js'
import { PAGE, destinationBlock, discardedBlock, faultAt, injectFaults } from './support.js'

describe('the preempt channel of MissingPages', () => {
  const firstPage = record(
    2 * PAGE + PAGE_FLAG,
    Uint8Array.of(3, ...Buffer.from('ram')),
    new Uint8Array(PAGE).fill(1),
  )

  it('is not taken without the capability', () => {
    const { missing } = missingPages({ preempt: false })
    const connection = new RecordingChannel()
    assert.equal(missing.offerPreempt(connection.asChannel), false)
    assert.equal(missing.offerEarlyPreempt(connection.asChannel), false)
    assert.deepEqual([missing.isPreemptOpen, missing.isComplete], [false, true])
  })

  it('is one connection after the first one of the source', () => {
    const { missing } = missingPages()
    const [first, second] = [new RecordingChannel(), new RecordingChannel()]
    assert.equal(missing.offerPreempt(first.asChannel), true)
    assert.equal(missing.offerPreempt(second.asChannel), false)
    assert.equal(missing.isPreemptOpen, true)
    assert.deepEqual([first.silenceTimeouts, second.silenceTimeouts], [[55], []])
  })

  it('is read only after memory is armed', () => {
    const { missing, log } = missingPages({ phase: 'advise' })
    const connection = new RecordingChannel()
    missing.offerPreempt(connection.asChannel)
    connection.receive(firstPage)
    assert.deepEqual(log, [])
    const armed = missingPages({ phase: 'listening' })
    armed.missing.offerPreempt(connection.asChannel)
    assert.deepEqual(armed.log, ['page 2', 'placed'])
  })

  it('is polled for pages instead of the main channel', async () => {
    const ram = discardedBlock(8)
    const { missing, channel, written, arm } = missingPages({ blocks: [ram] })
    const connection = new RecordingChannel()
    missing.offerPreempt(connection.asChannel)
    arm()
    const requested = written()
    const thread = new Parked(ram.block.region, 'read', PAGE)
    await requested
    assert.deepEqual([connection.spins, channel.spins], [[9], []])
    missing.disarm()
    assert.equal(await thread.result, 'done')
  })

  it('completes the migration only with its last page', () => {
    const ram = discardedBlock(8)
    const { missing } = missingPages({ blocks: [ram] })
    missing.offerPreempt(new RecordingChannel().asChannel)
    assert.equal(missing.isComplete, false)
    ram.received.setAll()
    assert.equal(missing.isComplete, true)
  })

  it('fails the session once if it closes while pages are owed', () => {
    const { missing, log, session } = missingPages()
    const connection = new RecordingChannel()
    missing.offerPreempt(connection.asChannel)
    connection.end()
    connection.breakOff('ECONNRESET')
    connection.settle()
    assert.deepEqual(log, [
      'the source closed the preempt channel while pages were owed',
      'postcopy-paused',
    ])
    assert.equal(session.phases.phase, 'paused')
  })

  it('may close once all pages are here', () => {
    const ram = destinationBlock(8)
    ram.received.setAll()
    const { missing, log } = missingPages({ blocks: [ram] })
    const connection = new RecordingChannel()
    missing.offerPreempt(connection.asChannel)
    connection.end()
    assert.deepEqual(log, [])
  })

  it('may end by its mark before the main channel has ended, and not after it', () => {
    const log = (phase: Setting['phase'] & string): string[] => {
      const made = missingPages({ phase })
      const connection = new RecordingChannel()
      made.missing.offerPreempt(connection.asChannel)
      connection.receive(record(0x10))
      return made.log
    }
    assert.deepEqual(log('running'), ['placed'])
    assert.deepEqual(log('running-ended').at(-1), 'postcopy-paused')
  })

  it('sends the requests of the faults that it finds after its pages', () => {
    const ram = discardedBlock(8)
    const { missing, messages, arm, uffd } = missingPages({ blocks: [ram] })
    const connection = new RecordingChannel()
    missing.offerPreempt(connection.asChannel)
    arm()
    injectFaults(uffd(), faultAt(ram, 6))
    connection.receive(firstPage)
    assert.deepEqual(messages(), ['ram:6'])
  })

  it('is closed with the session', () => {
    const { missing } = missingPages()
    const connection = new RecordingChannel()
    missing.offerPreempt(connection.asChannel)
    missing.closePreempt()
    assert.deepEqual([connection.broken, missing.isPreemptOpen], [true, false])
  })
})

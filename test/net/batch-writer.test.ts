import assert from 'node:assert/strict'
import { BatchWriter } from '../../src/net/batch-writer.js'
import { RecordingChannel } from '../support/recording-channel.js'

function writer() {
  const channel = new RecordingChannel()
  return { channel, batches: new BatchWriter(channel.asChannel, 16) }
}

/** Takes all buffers that are free. */
function takeAll(batches: BatchWriter): Uint8Array[] {
  const taken: Uint8Array[] = []
  for (let one = batches.tryTake(); one !== undefined; one = batches.tryTake()) taken.push(one)
  return taken
}

describe('BatchWriter', () => {
  it('has three buffers of the given size', () => {
    const taken = takeAll(writer().batches)
    assert.deepEqual(
      taken.map(({ length }) => length),
      [16, 16, 16],
    )
    assert.equal(new Set(taken).size, 3)
  })

  it('writes a part of a buffer, and frees it when the kernel has taken it', () => {
    const { channel, batches } = writer()
    channel.keepsWrites = true
    const [first] = takeAll(batches)
    assert(first !== undefined)
    first.set([1, 2, 3, 4], 5)
    batches.send(first, 6, 9)
    assert.deepEqual([...channel.bytes], [2, 3, 4])
    assert.equal(batches.tryTake(), undefined)
    channel.finishWrites()
    assert.equal(batches.tryTake(), first)
  })

  it('frees a buffer after a failed write, too', () => {
    const { channel, batches } = writer()
    channel.keepsWrites = true
    const [first] = takeAll(batches)
    assert(first !== undefined)
    batches.send(first, 0, 1)
    channel.finishWrites(new Error('reset'))
    assert.equal(batches.tryTake(), first)
  })

  it('waits for a free buffer', async () => {
    const { batches } = writer()
    const [first] = takeAll(batches)
    assert(first !== undefined)
    const waiting = batches.take()
    batches.giveBack(first)
    assert.equal(await waiting, first)
  })

  it('has no buffer any more once it is abandoned, also for what waits', async () => {
    const { batches } = writer()
    const [first] = takeAll(batches)
    assert(first !== undefined)
    const waiting = batches.take()
    batches.abandon()
    assert.equal(await waiting, undefined)
    batches.giveBack(first)
    assert.equal(batches.tryTake(), undefined)
    assert.equal(await batches.take(), undefined)
  })
})

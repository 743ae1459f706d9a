import assert from 'node:assert/strict'
import { type Parameters, resolveOptions } from '../../src/migration/options.js'
import type { TrackedBlock } from '../../src/ram/dirty-log.js'
import { SourceLink } from '../../src/source/link.js'
import { precopy } from '../../src/source/precopy.js'
import { Clock, ClockSignal } from '../support/clock.js'
import { RecordingChannel } from '../support/recording-channel.js'
import { type SourceStream, filled, pagesOf, senderOf, tracked } from './support.js'

interface Setting {
  readonly parameters?: Partial<Parameters>
  readonly mayPostcopy?: boolean
  /** Pages that the guest writes in each round. */
  readonly written?: readonly (readonly number[])[]
  /** Called before each batch. */
  readonly check?: (clock: Clock) => void
  readonly postcopyRequested?: () => boolean
}

/** Runs a precopy of the block. */
async function run(block: TrackedBlock, setting: Setting = {}) {
  const { written = [], mayPostcopy = true, check, postcopyRequested = () => false } = setting
  const clock = new Clock()
  const signal = new ClockSignal(clock)
  const { ram, counters, stream } = senderOf([block])
  const channel = new RecordingChannel()
  const link = new SourceLink(
    channel.asChannel,
    ram.batchBytes(256),
    counters,
    signal,
    () => 0,
    true,
  )
  const { parameters } = resolveOptions({
    parameters: { 'max-bandwidth': 0, 'downtime-limit': 0, ...setting.parameters },
  })
  let round = 0
  const begunAt = clock.ms
  const result = await precopy(link, {
    ram,
    counters,
    parameters: () => parameters,
    syncDirtyPages: () => {
      for (const page of written[round] ?? []) block.dirty.set(page)
      round += 1
    },
    mayPostcopy,
    postcopyRequested,
    check: () => check?.(clock),
  })
  for (const bytes of channel.written) stream.push(bytes)
  return { result, rounds: round, stream, ram, counters, channel, tookMs: clock.ms - begunAt }
}

const pagesSent = ({ stream }: { stream: SourceStream }): string[] => stream.pages

describe('precopy', () => {
  it('sends what the guest writes again, until nothing remains', async () => {
    const done = await run(tracked(8), { written: [[2, 5], [5]] })
    assert.deepEqual([done.result, done.rounds], ['precopy', 3])
    assert.deepEqual(pagesSent(done), [...pagesOf('ram', 0, 8), 'ram:2', 'ram:5', 'ram:5'])
    assert.equal(done.counters.precopyBytes, done.channel.bytes.length)
  })

  it('ends while as much remains as can be sent in the permitted downtime', async () => {
    const block = filled(64)
    // 64 pages in the virtual second of the rate meter are 64 pages per second.
    const done = await run(block, {
      parameters: { 'downtime-limit': 100 },
      written: [[1], [1, 2, 3]],
      check: (clock) => {
        clock.ms += 100
      },
    })
    assert.deepEqual([done.result, done.rounds], ['precopy', 1])
    assert.deepEqual(done.ram.remainingPages, 1)
  })

  it('needs no page to end', async () => {
    const block = tracked(4)
    block.dirty.clearRange(0, 4)
    const done = await run(block)
    assert.deepEqual([done.result, done.rounds, done.channel.written.length], ['precopy', 1, 0])
  })

  it('switches to postcopy before its first page if that was requested', async () => {
    const done = await run(tracked(4), { postcopyRequested: () => true })
    assert.deepEqual([done.result, done.channel.written.length], ['postcopy', 0])
  })

  it('does not switch without the capability, or with nothing to send', async () => {
    const without = await run(tracked(4), { postcopyRequested: () => true, mayPostcopy: false })
    assert.deepEqual([without.result, without.ram.remainingPages], ['precopy', 0])
    const block = tracked(4)
    block.dirty.clearRange(0, 4)
    const empty = await run(block, { postcopyRequested: () => true })
    assert.equal(empty.result, 'precopy')
  })

  it('switches after the configured number of rounds', async () => {
    const done = await run(tracked(4), {
      parameters: { 'x-postcopy-after-rounds': 2 },
      written: [[0], [1], [2]],
    })
    assert.deepEqual([done.result, done.rounds], ['postcopy', 2])
    assert.deepEqual(pagesSent(done), [...pagesOf('ram', 0, 4), 'ram:0'])
    assert.equal(done.ram.remainingPages, 1)
  })

  it('switches after the configured time', async () => {
    const done = await run(tracked(4), {
      parameters: { 'x-postcopy-after-ms': 50 },
      written: Array.from({ length: 100 }, () => [0]),
      check: (clock) => {
        clock.ms += 10
      },
    })
    assert.equal(done.result, 'postcopy')
    assert(done.rounds > 0 && done.rounds < 5, `${done.rounds} rounds`)
  })

  it('keeps to its bandwidth, in small batches', async () => {
    const bytesPerSecond = 256 * 4104
    const done = await run(filled(512), { parameters: { 'max-bandwidth': bytesPerSecond } })
    const longest = Math.max(...done.channel.written.map(({ length }) => length))
    assert(longest < 129 * 4104, `a batch of ${longest} bytes`)
    assert(done.tookMs > 1200 && done.tookMs < 2200, `${done.tookMs} ms instead of two seconds`)
  })

  it('publishes how many pages the guest writes per second', async () => {
    const { counters } = await run(tracked(4), {
      written: [[0, 1, 2]],
      parameters: { 'x-postcopy-after-rounds': 1 },
      check: (clock) => {
        clock.ms += 250
      },
    })
    // One batch of all pages, one to see that no other page is dirty: half a second.
    assert.equal(counters.dirtyPagesRate, 6)
  })

  it('ends with the reason for which the migration cannot continue', async () => {
    const gone = new Error('gone')
    const check = (): void => {
      throw gone
    }
    await assert.rejects(run(tracked(4), { check }), gone)
  })
})

import assert from 'node:assert/strict'
import { PUSH_NEVER } from '../../src/migration/options.js'
import { RecordingChannel } from '../support/recording-channel.js'
import { decodeRecords } from '../support/records.js'
import { Rig, whileLoading } from './push-rig.js'
import { PAGE, filled, pagesOf, tracked } from './support.js'

const RECORD_BYTES = 8 + PAGE
/** The window before any measurement. */
const FIRST_WINDOW_BYTES = 36 * 1024
const PONG_MS = 10
const LOADING_MS = 100

describe('Push', () => {
  it('sends each page once, block by block, and ends', async () => {
    const rig = new Rig([tracked(3), tracked(2, 1, 'rom')])
    await rig.run()
    assert.deepEqual(rig.stream.pages, [...pagesOf('ram', 0, 3), ...pagesOf('rom', 0, 2)])
    assert.equal(rig.ram.remainingPages, 0)
    assert.equal(rig.counters.postcopyBytes, rig.channel.bytes.length)
    assert.equal(rig.stream.leftoverBytes, 0)
  })

  it('ends at once if nothing is owed', async () => {
    const block = tracked(3)
    block.dirty.clearRange(0, 3)
    const rig = new Rig([block])
    await rig.run()
    assert.equal(rig.channel.written.length, 0)
  })

  it('sends a requested page in the same turn of the event loop, and continues after it', async () => {
    const block = tracked(64)
    const rig = new Rig([block])
    await whileLoading(rig, () => {
      assert.deepEqual(rig.request(block, 40), [['ram:40']])
    })
    assert.deepEqual(rig.stream.pages, [...pagesOf('ram', 40, 64), ...pagesOf('ram', 0, 40)])
    assert.equal(rig.counters.postcopyBytes, rig.channel.bytes.length)
  })

  it('counts requested host pages', async () => {
    const block = tracked(64, 8)
    const rig = new Rig([block])
    await whileLoading(rig, () => {
      rig.push.request(block, 8, 32)
    })
    assert.equal(rig.counters.requestedPages, 3)
    assert.deepEqual(rig.stream.pages.slice(0, 24), pagesOf('ram', 8, 32))
  })

  it('serves a request only while it runs', async () => {
    const block = tracked(4)
    const rig = new Rig([block])
    rig.push.request(block, 2, 3)
    assert.equal(rig.push.serve(), false)
    assert.equal(rig.channel.written.length, 0)
    await rig.run()
    assert.equal(rig.stream.pages[0], 'ram:2')
    block.dirty.set(1)
    rig.ram.recount()
    rig.push.request(block, 1, 2)
    assert.equal(rig.push.serve(), false)
    assert.equal(rig.stream.pages.length, 4)
  })

  it('needs no turn of its loop after all requests were served, unless nothing is owed', async () => {
    const block = tracked(2)
    const rig = new Rig([block])
    await whileLoading(rig, () => {
      rig.push.request(block, 1, 2)
      assert.equal(rig.push.serve(), true)
      rig.push.request(block, 0, 1)
      assert.equal(rig.push.serve(), false)
    })
    assert.deepEqual(rig.stream.pages, ['ram:1', 'ram:0'])
  })

  it('keeps requests while the kernel takes no bytes', async () => {
    const block = filled(8)
    const rig = new Rig([block], { 'x-read-ahead-pages': 0 })
    await whileLoading(rig, () => {
      rig.channel.keepsWrites = true
      const sent = rig.request(block, 7, 5, 3, 1)
      assert.deepEqual(sent, [['ram:7'], ['ram:5'], ['ram:3'], []], 'there are three buffers')
      assert.equal(rig.push.serve(), false)
      rig.channel.keepsWrites = false
      rig.channel.finishWrites()
    })
    assert.equal(rig.stream.pages[3], 'ram:1')
    assert.equal(rig.counters.postcopyBytes, rig.channel.bytes.length)
  })

  it('keeps requests while the kernel takes no bytes on the preempt channel', async () => {
    const block = filled(8)
    const rig = new Rig([block], { 'x-read-ahead-pages': 0 })
    const urgent = new RecordingChannel()
    const during = (): void => {
      urgent.keepsWrites = true
      rig.request(block, 7, 5, 3, 1)
      assert.equal(urgent.written.length, 3)
      urgent.keepsWrites = false
      urgent.finishWrites()
    }
    await whileLoading(rig, during, rig.connect(urgent))
    assert.deepEqual(
      decodeRecords(urgent.bytes).map(({ page }) => page),
      [7, 5, 3, 1],
    )
    const sent = urgent.bytes.length + rig.channel.bytes.length
    assert.equal(rig.counters.postcopyBytes, sent)
  })

  it('sends requested pages on the preempt channel, and no others there', async () => {
    const block = tracked(8)
    const rig = new Rig([block], { 'x-read-ahead-pages': 0 })
    const urgent = new RecordingChannel()
    const during = (): void => {
      rig.push.request(block, 6, 7)
      rig.push.request(block, 2, 3)
      rig.push.serve()
    }
    await whileLoading(rig, during, rig.connect(urgent))
    assert.deepEqual(
      decodeRecords(urgent.bytes).map(({ page }) => page),
      [6, 2],
    )
    assert.deepEqual(rig.stream.pages, [...pagesOf('ram', 3, 6), 'ram:7', 'ram:0', 'ram:1'])
  })

  it('pushes nothing while the devices are loaded, for a limited time', async () => {
    const rig = new Rig([tracked(4)])
    rig.isLoading = true
    const sentBefore: number[] = []
    rig.onWait = () => sentBefore.push(rig.channel.written.length)
    await rig.run()
    assert.deepEqual(rig.signal.timeoutsMs, [LOADING_MS])
    assert.deepEqual(sentBefore, [0])
    assert.equal(rig.stream.pages.length, 4)
  })

  it('pushes nothing until there was no request for the configured time', async () => {
    const block = tracked(4)
    const rig = new Rig([block], { 'x-push-after-quiet-ms': 50 })
    rig.onWait = () => {
      if (rig.signal.timeoutsMs.length > 1) return
      rig.clock.ms += 30
      rig.request(block, 2)
      rig.signal.notify()
    }
    await rig.run()
    assert.deepEqual(rig.signal.timeoutsMs, [50, 50])
    assert.deepEqual(rig.stream.pages, ['ram:2', 'ram:3', 'ram:0', 'ram:1'])
  })

  it('sends only requested pages if it never pushes', async () => {
    const block = tracked(4)
    const rig = new Rig([block], {
      'x-push-after-quiet-ms': PUSH_NEVER,
      'x-read-ahead-pages': 0,
    })
    const pages = [3, 0, 2, 1]
    rig.onWait = () => rig.request(block, ...pages.splice(0, 1))
    await rig.run()
    assert.deepEqual(rig.stream.pages, ['ram:3', 'ram:0', 'ram:2', 'ram:1'])
    assert(
      rig.signal.timeoutsMs.every((ms) => ms === 60_000),
      'a timer has a maximum',
    )
  })

  it('keeps what is not placed below the window', async () => {
    const rig = new Rig([filled(64)])
    const unplaced: number[] = []
    let placed = 0
    rig.onWait = () => {
      const sent = rig.channel.bytes.length
      unplaced.push(sent - placed)
      placed = sent
      rig.pong()
    }
    await rig.run()
    assert.equal(rig.stream.pages.length, 64)
    assert(unplaced.length > 4, `${unplaced.length} waits`)
    for (const bytes of unplaced) {
      assert(bytes <= FIRST_WINDOW_BYTES + RECORD_BYTES, `${bytes} bytes were in flight`)
      assert(bytes > FIRST_WINDOW_BYTES / 2, `only ${bytes} bytes were in flight`)
    }
  })

  it('goes on without pongs, slowly', async () => {
    const rig = new Rig([filled(64)])
    await rig.run()
    assert.equal(rig.stream.pages.length, 64)
    assert(
      rig.signal.timeoutsMs.every((ms) => ms === PONG_MS),
      rig.signal.timeoutsMs.join(),
    )
    assert(rig.signal.timeoutsMs.length > 10, `${rig.signal.timeoutsMs.length} waits`)
  })

  it('sends a ping if the window is full of requested pages, which had none', async () => {
    const block = filled(64)
    const rig = new Rig([block], { 'x-read-ahead-pages': 0 })
    await whileLoading(rig, () => {
      rig.push.request(block, 0, 8)
      rig.push.serve()
      assert.equal(rig.stream.pings.length, 0)
      rig.push.request(block, 8, 9)
      rig.push.serve()
      assert.equal(rig.stream.elements.at(-1), 'ping', 'due after 32 KiB')
      rig.pong()
      rig.push.request(block, 20, 28)
      rig.push.serve()
      assert.equal(rig.stream.elements.at(-1), 'ram:27')
      const { onWait } = rig
      rig.onWait = () => {
        assert.deepEqual(rig.stream.elements.slice(-2), ['ram:27', 'ping'])
        rig.pong()
        rig.onWait = onWait
      }
    })
    assert.equal(rig.stream.pages.length, 64)
    assert.equal(rig.signal.timeoutsMs[1], PONG_MS)
  })

  it('sends at most a tenth of a second of its bandwidth in a batch, and keeps to it', async () => {
    const bytesPerSecond = 20 * RECORD_BYTES
    const rig = new Rig([filled(40)], { 'max-postcopy-bandwidth': bytesPerSecond })
    rig.onWait = () => {
      for (const value of rig.stream.pings) rig.push.pong(value)
    }
    const begunAt = rig.clock.ms
    await rig.run()
    const longest = Math.max(...rig.channel.written.map(({ length }) => length))
    assert(longest < 3 * RECORD_BYTES, `a batch of ${longest} bytes`)
    const tookMs = rig.clock.ms - begunAt
    assert(tookMs > 1700 && tookMs < 2400, `${tookMs} ms instead of two seconds`)
  })

  it('keeps to a bandwidth of less than a page in a tenth of a second', async () => {
    const rig = new Rig([filled(12)], { 'max-postcopy-bandwidth': 4 * RECORD_BYTES })
    const begunAt = rig.clock.ms
    await rig.run()
    const tookMs = rig.clock.ms - begunAt
    assert(tookMs > 2500 && tookMs < 3200, `${tookMs} ms instead of three seconds`)
  })

  it('ends with the reason for which the migration cannot continue, and serves no more', async () => {
    const block = tracked(8)
    const rig = new Rig([block])
    rig.isLoading = true
    rig.onWait = () => {
      rig.failure = new Error('gone')
    }
    await assert.rejects(rig.run(), rig.failure)
    rig.push.request(block, 1, 2)
    assert.equal(rig.push.serve(), false)
    assert.equal(rig.channel.written.length, 0)
  })
})

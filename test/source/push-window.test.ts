import assert from 'node:assert/strict'
import { PushWindow } from '../../src/source/push-window.js'

const BATCH_BYTES = 64 * 1024

interface Link {
  /** Bytes per millisecond. */
  readonly rate: number
  /** Round trip time of an empty message, in milliseconds. */
  readonly roundTripMs: number
  /** How many bytes pass at once after the link was idle. */
  readonly burstBytes?: number
}

/** Pushes over a link and keeps it busy. @returns the throughput, and the longest queue in ms */
function push(
  window: PushWindow,
  { rate, roundTripMs, burstBytes = 0 }: Link,
  queueMs: number,
  fromMs: number,
  ms: number,
) {
  const underWay: { readonly ping: number; readonly atMs: number }[] = []
  let linkFreeAt = fromMs
  let sent = 0
  let longestMs = 0
  for (let time = fromMs; time < fromMs + ms; time += 0.01) {
    for (let next = underWay[0]; next !== undefined && next.atMs <= time; next = underWay[0]) {
      window.acknowledge(next.ping, next.atMs)
      underWay.shift()
    }
    const limit = window.bytesFor(queueMs)
    const bytes = Math.min(BATCH_BYTES, Math.floor(limit / 4))
    if (window.outstandingBytes + bytes > limit) {
      window.full(time)
      continue
    }
    linkFreeAt = Math.max(linkFreeAt, time - burstBytes / rate) + bytes / rate
    const passedAt = Math.max(time, linkFreeAt)
    underWay.push({ ping: window.sent(bytes, time), atMs: passedAt + roundTripMs })
    sent += bytes
    if (time > fromMs + ms / 2) longestMs = Math.max(longestMs, linkFreeAt - time)
  }
  return { bytesPerMs: sent / ms, longestMs }
}

describe('PushWindow', () => {
  for (const [what, link] of [
    ['loopback', { rate: 2_000_000, roundTripMs: 0.1 }],
    ['10 Gbit/s', { rate: 1_250_000, roundTripMs: 0.2 }],
    ['1 Gbit/s', { rate: 125_000, roundTripMs: 0.2 }],
    ['100 Mbit/s', { rate: 12_500, roundTripMs: 0.5 }],
    ['1 Gbit/s that lets bursts pass', { rate: 125_000, roundTripMs: 0.2, burstBytes: 128 * 1024 }],
    ['1 Gbit/s around the world', { rate: 125_000, roundTripMs: 150 }],
  ] as const) {
    it(`fills a link of ${what}, and keeps the queue short`, () => {
      const ms = 500 + link.roundTripMs * 60
      const window = new PushWindow()
      const { bytesPerMs, longestMs } = push(window, link, 0.1, 0, ms)
      assert(bytesPerMs > link.rate * 0.6, `${bytesPerMs} of ${link.rate}`)
      // After a pause the whole window arrives at once: one and a half round trips.
      assert(longestMs < link.roundTripMs * 1.5 + 1, `${longestMs} ms`)
    })
  }

  it('adapts to a link that becomes slow', () => {
    const window = new PushWindow()
    push(window, { rate: 1_000_000, roundTripMs: 0.1 }, 0.1, 0, 100)
    push(window, { rate: 10_000, roundTripMs: 0.1 }, 0.1, 100, 300)
    const { longestMs } = push(window, { rate: 10_000, roundTripMs: 0.1 }, 0.1, 400, 300)
    assert(longestMs < 2, `${longestMs} ms`)
  })

  /** 125,000 bytes pass per millisecond, all of them in its first fifth. */
  function pushInBursts(window: PushWindow, isFull: boolean): void {
    for (let time = 0; time < 500; time += 1) {
      const pings = [window.sent(62_500, time), window.sent(62_500, time)]
      for (const [index, ping] of pings.entries()) {
        const passedAt = time + 0.1 * (index + 1)
        window.acknowledge(ping, passedAt)
        if (isFull) window.full(passedAt)
      }
    }
  }

  it('does not treat bursts of a slow link as a fast link', () => {
    const window = new PushWindow()
    pushInBursts(window, true)
    assert.equal(window.isSlow, true)
    // 1.5 round trips of 0.1 ms plus 0.1 ms, at the rate of the link. A burst is
    // five times as fast.
    assert(window.bytesFor(0.1) < 40_000, `${window.bytesFor(0.1)} bytes`)
  })

  it('does not treat a link as slow because there is little to send', () => {
    const window = new PushWindow()
    pushInBursts(window, false)
    assert.equal(window.isSlow, false)
  })

  it('does not treat a full fast link as slow', () => {
    const window = new PushWindow()
    push(window, { rate: 1_000_000, roundTripMs: 0.1 }, 0.1, 0, 500)
    assert.equal(window.isSlow, false)
  })

  it('allows the bytes that pass in the time that a request may wait', () => {
    const window = new PushWindow()
    push(window, { rate: 100_000, roundTripMs: 1 }, 0.1, 0, 200)
    assert(window.bytesFor(5) > window.bytesFor(0.1) + 100_000 * 4)
  })

  it('ignores pongs for other pings', () => {
    const window = new PushWindow()
    const ping = window.sent(1000, 0)
    window.acknowledge(ping + 1, 1)
    window.acknowledge(3, 1)
    assert.equal(window.outstandingBytes, 1000)
    window.acknowledge(ping, 1)
    assert.equal(window.outstandingBytes, 0)
    window.acknowledge(ping, 2)
    assert.equal(window.outstandingBytes, 0)
  })
})

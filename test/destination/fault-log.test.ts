import assert from 'node:assert/strict'
import {
  FaultLog,
  createFaultLog,
  reportFaults,
  setVcpus,
} from '../../src/destination/fault-log.js'

/** Microseconds of the waits of `threadId`, one after another. */
function waits(log: FaultLog, threadId: number, ...durationsUs: readonly number[]): void {
  for (const us of durationsUs) {
    log.begin(threadId, 0)
    log.end(threadId, 0, us / 1000)
  }
}

const total = (buckets: readonly number[]): number => buckets.reduce((sum, one) => sum + one, 0)

describe('FaultLog', () => {
  it('reports zeros before the first fault', () => {
    const report = reportFaults(createFaultLog())
    const { count, p50Us, p999Us, maxUs, allBlockedUs, otherBlocktimeUs } = report
    assert.deepEqual(
      [count, p50Us, p999Us, maxUs, allBlockedUs, otherBlocktimeUs],
      [0, 0, 0, 0, 0, 0],
    )
    assert.deepEqual(report.vcpuBlocktimeUs, [])
    assert.equal(total(report.buckets), 0)
  })

  it('counts each fault in the bucket of its duration', () => {
    const shared = createFaultLog()
    const log = new FaultLog(shared)
    waits(log, 7, 0, 0.5, 1, 2, 1024, 1024 * Math.SQRT2 * 1.01, 1e15)
    const { count, buckets } = reportFaults(shared)
    assert.equal(count, 7)
    assert.equal(total(buckets), 7)
    const filled = buckets.flatMap((faults, bucket) => (faults > 0 ? [[bucket, faults]] : []))
    assert.deepEqual(filled, [
      [0, 3],
      [2, 1],
      [20, 1],
      [21, 1],
      [63, 1],
    ])
  })

  it('reports percentiles in microseconds', () => {
    const shared = createFaultLog()
    waits(new FaultLog(shared), 7, ...Array.from({ length: 99 }, () => 100), 5000)
    const { p50Us, p90Us, maxUs } = reportFaults(shared)
    for (const [value, expected] of [
      [p50Us, 100],
      [p90Us, 100],
      [maxUs, 5000],
    ] as const) {
      assert(Math.abs(value - expected) < expected * 0.02, `${value} instead of ${expected}`)
    }
  })

  it('sums up the waits of each vCPU, in the order of the machine, and those of other threads', () => {
    const shared = createFaultLog()
    setVcpus(shared, [30, 20])
    const log = new FaultLog(shared)
    waits(log, 20, 100, 200)
    waits(log, 30, 7)
    waits(log, 5, 11)
    const { vcpuBlocktimeUs, otherBlocktimeUs } = reportFaults(shared)
    assert.deepEqual(vcpuBlocktimeUs.map(Math.round), [7, 300])
    assert.equal(Math.round(otherBlocktimeUs), 11)
  })

  it('learns of vCPUs that are known only after it was made', () => {
    const shared = createFaultLog()
    const log = new FaultLog(shared)
    waits(log, 20, 100)
    setVcpus(shared, [20])
    waits(log, 20, 50)
    const { vcpuBlocktimeUs, otherBlocktimeUs } = reportFaults(shared)
    assert.deepEqual([vcpuBlocktimeUs.map(Math.round), Math.round(otherBlocktimeUs)], [[50], 100])
  })

  it('continues the log of an earlier worker', () => {
    const shared = createFaultLog()
    setVcpus(shared, [20])
    waits(new FaultLog(shared), 20, 100)
    waits(new FaultLog(shared), 20, 50)
    const { count, allBlockedUs, vcpuBlocktimeUs } = reportFaults(shared)
    assert.deepEqual(
      [count, Math.round(allBlockedUs), vcpuBlocktimeUs.map(Math.round)],
      [2, 150, [150]],
    )
  })

  it('counts vCPUs beyond its limit as other threads', () => {
    const shared = createFaultLog()
    setVcpus(
      shared,
      Array.from({ length: 1100 }, (_, index) => index + 1),
    )
    const log = new FaultLog(shared)
    waits(log, 1024, 10)
    waits(log, 1025, 20)
    const { vcpuBlocktimeUs, otherBlocktimeUs } = reportFaults(shared)
    assert.equal(vcpuBlocktimeUs.length, 1024)
    assert.equal(Math.round(vcpuBlocktimeUs.at(-1) ?? 0), 10)
    assert.equal(Math.round(otherBlocktimeUs), 20)
  })
})

/** A small run of the rival in the benchmark `sweep`; its speed depends on the host. */
import assert from 'node:assert/strict'
import { qemuSweep } from '../../src/bench/qemu-sweep.js'
import { requires } from '../support/requires.js'

const cases = [
  { preempt: false, pattern: 'sweep' },
  { preempt: true, pattern: 'random' },
] as const

describe('a sweeping guest between two QEMUs', function () {
  before(function () {
    // QEMU supports postcopy only if it may handle faults in kernel mode too.
    requires(this, 'qemu', 'kernelFaults')
  })

  for (const options of cases) {
    const how = options.preempt ? 'with' : 'without'
    it(`is measured during its migration, ${options.pattern}, ${how} preempt`, async () => {
      const result = await qemuSweep({ ...options, ramMib: 128, hotMib: 64 })
      const { totalMs, downtimeMs, requests, blocktimeMs, firstSweepMs, localSweepMs } = result
      for (const number of [totalMs, firstSweepMs, localSweepMs]) {
        assert(number > 0, JSON.stringify(result))
      }
      for (const number of [downtimeMs, blocktimeMs, requests]) {
        assert(number >= 0, JSON.stringify(result))
      }
      const { progress } = result
      progress.forEach(([ms, share], index) => {
        const [msBefore, shareBefore] = progress[index - 1] ?? [0, -1]
        assert(ms >= msBefore && share > shareBefore, JSON.stringify(progress))
      })
      assert((progress.at(-1)?.[1] ?? 0) >= 1)
    })
  }
})

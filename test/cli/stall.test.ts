import assert from 'node:assert/strict'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { explainStall, processorUse } from '../../src/cli/demo/stall.js'
import { Cli, temporaryFolder } from './support.js'

describe('the explanation of a stalled demo', () => {
  it('is busy processors if a thread has waited for one', () => {
    const use = { vcpus: 256, processors: 2, load: 131.4, waitedMs: 28_000 }
    const text = explainStall(use, 30_000)
    assert.match(text, /^no progress for 30 s because the processors are busy: the 256 vCPUs/)
    assert.match(
      text,
      /share 2, 131 threads want to run, and a migration thread has waited 28 s for a processor/,
    )
    assert.match(text, /fewer --vcpus or a slower --workload \(rate=\)/)
  })

  it('is a high load if the kernel does not report waiting times', () => {
    const use = { vcpus: 256, processors: 2, load: 131.4, waitedMs: undefined }
    assert.match(
      explainStall(use, 30_000),
      /because the processors are busy: .* want to run\. Give/,
    )
  })

  it('is not known if no thread has waited', () => {
    for (const waitedMs of [10, undefined]) {
      const use = { vcpus: 2, processors: 2, load: 1, waitedMs }
      assert.equal(explainStall(use, 30_000), 'no progress for 30 s; the cause is not known')
    }
  })

  it('is based on the threads of the processes, without the vCPUs', async () => {
    const guest = new Cli(['guest', '--ram', '16M', '--vcpus', '2', '--json'])
    guest.type('info status')
    await guest.seen(/"return"/)
    const { processors, waitedMs } = processorUse(2, [guest.child.pid ?? -1])
    assert(processors >= 1)
    assert(waitedMs === undefined || waitedMs >= 0)
    assert.equal(processorUse(2, [2 ** 22]).waitedMs, undefined)
  })

  it('uses the thread that has waited longest, and no vCPU', async () => {
    const proc = await temporaryFolder()
    const threads = [
      ['7', 'node', 20],
      ['8', 'vcpu/0', 90],
      ['9', 'source', 30],
    ] as const
    for (const [id, name, waitedMs] of threads) {
      const folder = join(proc, '7/task', id)
      mkdirSync(folder, { recursive: true })
      writeFileSync(join(folder, 'comm'), `${name}\n`)
      writeFileSync(join(folder, 'schedstat'), `5000000 ${waitedMs * 1e6} 12\n`)
    }
    assert.equal(processorUse(1, [7], proc).waitedMs, 30)
  })
})

import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { availableParallelism, getPriority } from 'node:os'
import { setTimeout as sleep } from 'node:timers/promises'
import { MemoryRegion } from '../../src/kernel/index.js'
import { StateError } from '../../src/errors.js'
import { TouchHistogram, type Guest, type VcpuStats } from '../../src/guest/index.js'
import { TARGET_PAGE_SIZE } from '../../src/units.js'
import { eventually, makeGuest, readBlock, runFor } from './support.js'

function totalTouches(guest: Guest): number {
  return guest.vcpuStats().reduce((sum, { touches }) => sum + touches, 0)
}

/** Pages of `ram` whose content differs. */
function changedPages(before: Uint8Array, after: Uint8Array): number[] {
  const pages: number[] = []
  for (let at = 0; at < before.length; at += TARGET_PAGE_SIZE) {
    const end = at + TARGET_PAGE_SIZE
    if (Buffer.compare(before.subarray(at, end), after.subarray(at, end)) !== 0) {
      pages.push(at / TARGET_PAGE_SIZE)
    }
  }
  return pages
}

/** How often a thread of this process has slept. */
function voluntarySwitches(threadId: number): number {
  const status = readFileSync(`/proc/self/task/${threadId}/status`, 'utf8')
  const [, count] = /^voluntary_ctxt_switches:\t(\d+)$/m.exec(status) ?? []
  return Number(count)
}

describe('a guest', () => {
  it('does nothing before its start and after its stop, and can continue', async () => {
    const guest = await makeGuest({ workload: 'random:writes=50', vcpus: 2 })
    await sleep(20)
    assert.deepEqual([guest.running, totalTouches(guest)], [false, 0])
    await runFor(guest, 100)
    const stopped = totalTouches(guest)
    const ram = readBlock(guest, 'ram')
    await sleep(20)
    assert.deepEqual([guest.running, totalTouches(guest)], [false, stopped])
    assert.deepEqual(changedPages(ram, readBlock(guest, 'ram')), [])
    await runFor(guest, stopped + 100)
    assert(totalTouches(guest) > stopped)
    assert.equal((await guest.verify()).verified, true)
  })

  it('stops and starts a hundred times in a row', async () => {
    const guest = await makeGuest({ workload: 'zipf:writes=50', vcpus: 4 })
    for (let i = 0; i < 100; i += 1) {
      guest.start()
      await guest.stop()
    }
    await runFor(guest, 100)
    assert.equal((await guest.verify()).verified, true)
  })

  it('lowers the priority of vCPUs if there are more of them than processors', async () => {
    const processors = availableParallelism()
    const few = await makeGuest({ vcpus: 1 })
    const many = await makeGuest({ vcpus: processors * 8 })
    const [ours, niceOfFew, niceOfMany] = [
      [process.pid],
      few.vcpuThreadIds(),
      many.vcpuThreadIds(),
    ].map((ids) => ids.map((id) => getPriority(id)))
    assert.deepEqual(niceOfFew, ours)
    // Eight of them get as much CPU time as one other thread.
    assert.deepEqual(
      niceOfMany,
      Array<number>(processors * 8).fill(Math.min(19, (ours?.[0] ?? 0) + 10)),
    )
  })

  it('runs more vCPUs than there are CPUs, each on its own slice', async () => {
    const guest = await makeGuest({ workload: 'sweep:writes=100', vcpus: 33 })
    await runFor(guest, 20)
    const stats = guest.vcpuStats()
    let next = 0
    for (const { firstPage, pageCount } of stats) {
      assert.equal(firstPage, next)
      next += pageCount
    }
    assert.equal(next, 244) // all but the pages of the devices
    assert.equal(new Set(guest.vcpuThreadIds()).size, 33)
    assert.equal((await guest.verify()).verified, true)
  })

  it('has its vCPUs as threads of this process, by name, with every signal blocked', async () => {
    const guest = await makeGuest({ vcpus: 2 })
    const tasks = readdirSync('/proc/self/task').map(Number)
    for (const [index, id] of guest.vcpuThreadIds().entries()) {
      assert(tasks.includes(id))
      const status = readFileSync(`/proc/self/task/${id}/status`, 'utf8')
      assert.match(status, new RegExp(`^Name:\\tvcpu/${index}$`, 'm'))
      const blocked = BigInt(`0x${/^SigBlk:\t(\w+)$/m.exec(status)?.[1] ?? ''}`)
      for (const signal of [1, 2, 10, 12, 15, 17, 27]) {
        assert.equal((blocked >> BigInt(signal - 1)) & 1n, 1n, `signal ${signal}`)
      }
    }
  })

  it('ends its threads when it is closed', async () => {
    const guest = await makeGuest({ workload: 'sweep', vcpus: 3 })
    guest.start()
    const ids = guest.vcpuThreadIds()
    await guest.close()
    await guest.close()
    await eventually('the end of the threads', () => {
      const tasks = readdirSync('/proc/self/task').map(Number)
      return ids.every((id) => !tasks.includes(id))
    })
    assert.throws(() => {
      guest.start()
    }, /the guest was closed/)
    assert.throws(() => guest.vcpuStats(), { code: 'ERR_CLOSED' })
    for (const { region } of guest.blocks) {
      assert.throws(() => MemoryRegion.attach(region.id), { code: 'ENOENT' }, 'it is unmapped')
    }
  })

  it('cannot be saved, checked or loaded while it runs', async () => {
    const guest = await makeGuest({ workload: 'sweep' })
    guest.start()
    const isRunning = (error: unknown) => error instanceof StateError && error.state === 'running'
    assert.throws(() => guest.saveDevices(), isRunning)
    assert.throws(() => guest.loadDevice('queue', 0, 1, new Uint8Array()), isRunning)
    await assert.rejects(guest.verify(), isRunning)
  })

  it('does not start while it is being checked', async () => {
    const guest = await makeGuest({ ram: '64M', workload: 'sweep' })
    const verifying = guest.verify()
    assert.throws(
      () => {
        guest.start()
      },
      { code: 'ERR_STATE_BUSY' },
    )
    await assert.rejects(guest.verify(), { code: 'ERR_STATE_BUSY' })
    assert.equal((await verifying).verified, true)
    guest.start()
  })
})

describe('a check', () => {
  it('of a guest that is closed meanwhile gives no verdict', async () => {
    const guest = await makeGuest({ ram: '64M' })
    const refused = assert.rejects(guest.verify(), { code: 'ERR_CLOSED' })
    await guest.close()
    await refused
  })

  it('that is aborted before it starts does not start', async () => {
    const guest = await makeGuest()
    await assert.rejects(guest.verify({ signal: AbortSignal.abort() }), { name: 'AbortError' })
    assert.equal(guest.checking, false)
    assert.equal((await guest.verify()).verified, true)
  })
})

describe('a workload', () => {
  it('idle touches nothing and lets its thread sleep', async () => {
    const guest = await makeGuest({ workload: 'idle' })
    const ram = readBlock(guest, 'ram')
    const [id = 0] = guest.vcpuThreadIds()
    guest.start()
    await eventually('idle', () => guest.vcpuStats()[0]?.activity === 'idle')
    const switches = () =>
      /^voluntary_ctxt_switches:\t(\d+)$/m.exec(
        readFileSync(`/proc/self/task/${id}/status`, 'utf8'),
      )?.[1]
    await sleep(5)
    const before = switches()
    await sleep(50)
    assert.equal(switches(), before)
    await guest.stop()
    assert.equal(totalTouches(guest), 0)
    // Only the devices have written: a queue entry with its buffer, and a request.
    assert.equal(changedPages(ram, readBlock(guest, 'ram')).length, 3)
  })

  it('sweep visits each page of its hot set in turn', async () => {
    const guest = await makeGuest({ workload: 'sweep:writes=100,hot=40K,touches=10', vcpus: 2 })
    const ram = readBlock(guest, 'ram')
    await runFor(guest, 10)
    const changed = changedPages(ram, readBlock(guest, 'ram')).filter((page) => page < 244)
    assert.deepEqual(changed, [0, 1, 2, 3, 4, 122, 123, 124, 125, 126])
  })

  it('chase visits every hot page before it returns', async () => {
    const guest = await makeGuest({ workload: 'chase:writes=100,hot=400K,touches=100' })
    const ram = readBlock(guest, 'ram')
    await runFor(guest, 100)
    const changed = changedPages(ram, readBlock(guest, 'ram')).filter((page) => page < 244)
    assert.deepEqual(
      changed,
      Array.from({ length: 100 }, (_, page) => page),
    )
  })

  it('chase follows pages that were never written', async () => {
    const guest = await makeGuest({ workload: 'chase:writes=0,fill=50,touches=1000' })
    await runFor(guest, 1000)
    assert.equal((await guest.verify()).verified, true)
  })

  it('zipf touches few pages often and most of them sometimes', async () => {
    const guest = await makeGuest({ workload: 'zipf:writes=100,fill=0,touches=20000' })
    await runFor(guest, 20000)
    const ledger = readBlock(guest, 'ledger')
    const versions = Array.from(new Uint32Array(ledger.buffer, 0, 244)).sort((a, b) => b - a)
    const [first = 0, second = 0] = versions
    const expected = 20000 * (Math.log(2) / Math.log(245))
    assert(Math.abs(first / expected - 1) < 0.15, `${first} touches of the first page`)
    assert(second < first * 0.7)
    assert(versions.filter((version) => version > 0).length > 200)
  })

  it('random spreads its touches evenly', async () => {
    const guest = await makeGuest({ workload: 'random:writes=100,fill=0,touches=24400' })
    await runFor(guest, 24400)
    const versions = new Uint32Array(readBlock(guest, 'ledger').buffer, 0, 244)
    for (const version of versions) assert(version > 40 && version < 180, `${version} for 100`)
  })

  it('fills and writes the given share of pages', async () => {
    const guest = await makeGuest({
      ram: '16M',
      workload: 'random:writes=30,fill=25,touches=20000',
    })
    const ledger = new Uint32Array(readBlock(guest, 'ledger').buffer)
    const filled = ledger.reduce((sum, version) => sum + version, 0) / (16 * 256 - 12)
    assert(Math.abs(filled - 0.25) < 0.03, `${filled} filled`)
    await runFor(guest, 20000)
    const [stats] = guest.vcpuStats()
    assert(stats !== undefined)
    assert.equal(stats.reads + stats.writes, stats.touches)
    assert(Math.abs(stats.writes / stats.touches - 0.3) < 0.03, `${stats.writes} writes`)
    assert.equal((await guest.verify()).verified, true)
  })

  it('sleeps far less often than it touches pages at a high rate', async () => {
    const guest = await makeGuest({ vcpus: 1, workload: 'sweep:rate=50000,touches=5000' })
    const [vcpu = 0] = guest.vcpuThreadIds()
    const before = voluntarySwitches(vcpu)
    await runFor(guest, 5000)
    assert.equal(totalTouches(guest), 5000)
    // A pause of a millisecond or more for each 50 touches, and the start and the end.
    const sleeps = voluntarySwitches(vcpu) - before
    assert(sleeps < 150, `${sleeps} sleeps`)
  })

  it('rate limits a vCPU', async () => {
    const guest = await makeGuest({ workload: 'sweep:rate=2000' })
    const from = performance.now()
    guest.start()
    await sleep(200)
    await guest.stop()
    const most = ((performance.now() - from) / 1000) * 2000 + 1
    assert(totalTouches(guest) <= most, `${totalTouches(guest)} of at most ${most}`)
    assert(totalTouches(guest) > 0)
  })
})

describe('counters', () => {
  it('can be read while the vCPUs run, and only grow', async () => {
    const guest = await makeGuest({ workload: 'random:writes=50', vcpus: 2 })
    guest.start()
    let before: VcpuStats[] = guest.vcpuStats()
    for (let i = 0; i < 200; i += 1) {
      const now = guest.vcpuStats()
      now.forEach((stats, vcpu) => {
        assert(stats.touches >= (before[vcpu]?.touches ?? 0))
        assert(stats.writes >= (before[vcpu]?.writes ?? 0))
      })
      before = now
    }
    await runFor(guest, 1000)
  })

  it('have every touch in the histogram, in ascending order', async () => {
    const guest = await makeGuest({ workload: 'random:writes=50' })
    await runFor(guest, 5000)
    const [histogram] = guest.touchHistograms()
    const [stats] = guest.vcpuStats()
    assert(histogram !== undefined && stats !== undefined)
    assert.equal(histogram.total, stats.touches)
    const percentiles = [1, 50, 90, 99, 99.9, 100].map((p) => histogram.percentileNs(p))
    assert.deepEqual(
      percentiles,
      [...percentiles].sort((a, b) => a - b),
    )
    assert((percentiles[0] ?? 0) > 50, 'a page cannot be checked in 50 ns')
    assert((percentiles.at(-1) ?? 0) >= stats.maxTouchNs)
    assert.equal(histogram.since(histogram).total, 0)
    const twice = new TouchHistogram()
    twice.add(histogram)
    twice.add(histogram)
    assert.equal(twice.total, 2 * histogram.total)
  })

  it('have adjacent buckets, 6 % wide', () => {
    let before = -1
    for (let bucket = 0; bucket < 600; bucket += 1) {
      const start = TouchHistogram.bucketStartNs(bucket)
      assert(start > before)
      if (before >= 16) assert(start / before <= 1.0625)
      before = start
    }
  })
})

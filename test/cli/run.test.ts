import assert from 'node:assert/strict'
import { GuestProcess } from '../../src/cli/guest-process.js'
import { MigrationRun, type RunOptions, type RunResult } from '../../src/cli/demo/run.js'
import { judge, summaryObject } from '../../src/cli/demo/summary.js'
import { cleanups } from '../support/cleanup.js'

const common = ['--ram', '16M', '--vcpus', '1']
/** A guest that leaves most of a processor to the migration. */
const slow = ['--workload', 'random:rate=20000']

function guests(sourceArgs: readonly string[], destinationArgs: readonly string[]) {
  const source = new GuestProcess('source', [...common, ...sourceArgs])
  const destination = new GuestProcess('destination', [
    ...[...common, '--incoming', 'defer'],
    ...destinationArgs,
  ])
  for (const guest of [source, destination]) cleanups.add(() => guest.end())
  return { source, destination }
}

function watch(options: Partial<RunOptions> = {}): RunOptions & { notes: string[] } {
  const notes: string[] = []
  return {
    vcpus: 2,
    postcopyAfter: 'now',
    cells: 64,
    onSample: () => undefined,
    onNote: (text) => notes.push(text),
    notes,
    ...options,
  }
}

describe('a migration of the demo', () => {
  it('has samples, milestones and a map of how the pages were received', async () => {
    const { source, destination } = guests(
      ['--capability', 'postcopy-ram', ...slow],
      ['--capability', 'postcopy-ram'],
    )
    const result = await new MigrationRun(source, destination, watch()).run()
    assert.equal(judge(result).verified, true)
    assert(result.samples.length > 2)
    const states = result.milestones.filter(({ role }) => role === 'source')
    assert.deepEqual(
      states.map(({ status }) => status),
      ['setup', 'active', 'device', 'postcopy-device', 'postcopy-active', 'completed'],
    )
    assert.deepEqual(
      result.arrivals.map(({ block }) => block),
      ['ram', 'ledger'],
    )
    assert.equal(result.arrivals[0]?.cells.length, 64)
    for (const { pages, cells, ...sums } of result.arrivals) {
      assert.equal(sums.precopied + sums.requested + sums.pushed, pages)
      assert.equal(
        cells.reduce((sum, cell) => sum + cell.requested, 0),
        sums.requested,
      )
    }
  })

  it('reports the messages of both ends if it fails', async () => {
    const { source, destination } = guests(['--capability', 'postcopy-ram', ...slow], [])
    await assert.rejects(new MigrationRun(source, destination, watch()).run(), {
      code: 'ERR_DEMO_MIGRATION',
      message: /source failed: .*; destination failed: .*postcopy-ram is off here/,
    })
  })

  it('ends a precopy that does not converge, with rates and advice', async () => {
    const { source, destination } = guests(['--workload', 'sweep:hot=4M,writes=100,rate=5000'], [])
    const options = watch({
      postcopyAfter: 'never',
      // A round of 4 MiB takes a second, so that the guest writes most of it again
      // even on a slow host.
      parameters: { 'max-bandwidth': '4M', 'downtime-limit': '0' },
    })
    const isHinted = (): boolean => options.notes.some((note) => note.includes('in round'))
    const limited: RunOptions = {
      ...options,
      // No limit until the host has done these rounds; by then more than a second has passed.
      get precopyLimitMs() {
        return isHinted() ? 1000 : Infinity
      },
    }
    await assert.rejects(new MigrationRun(source, destination, limited).run(), {
      code: 'ERR_DEMO_NOT_CONVERGED',
      message: /dirties \d.*B\/s, .*B\/s can be sent\. Let it write less .*--postcopy-after/,
    })
    assert(options.notes.some((note) => /in round \d+: the guest dirties/.test(note)))
  })

  it('detects that a guest process has ended', async () => {
    const { source, destination } = guests(slow, [])
    await source.command('info status')
    const options = watch({
      postcopyAfter: 'never',
      onSample: () => {
        destination.kill()
      },
    })
    await assert.rejects(new MigrationRun(source, destination, options).run(), {
      code: 'ERR_GUEST_PROCESS',
    })
  })
})

describe('the verdict', () => {
  const good: RunResult = {
    info: { status: 'completed' },
    verify: {
      verified: true,
      pages: 10,
      counts: { lost: 0, misplaced: 0, stale: 0, torn: 0, corrupt: 0 },
      findings: [],
      failedChecks: 0,
      durationMs: 1,
    },
    workAfterSwitch: 5,
    isIdle: false,
    samples: [],
    milestones: [],
    arrivals: [],
  }

  it('is good if every page is right and the guest has worked', () => {
    assert.equal(judge(good).verified, true)
    assert.equal(summaryObject(good)['verified'], true)
  })

  const { verify } = good
  const bad: readonly (readonly [string, Partial<RunResult>, RegExp])[] = [
    [
      'a page is wrong',
      { verify: { ...verify, verified: false, counts: { ...verify.counts, stale: 2 } } },
      /of 10 pages 2 stale/,
    ],
    [
      'a check failed while the guest ran',
      { verify: { ...verify, verified: false, failedChecks: 3 } },
      /3 checks failed/,
    ],
    ['the guest did nothing any more', { workAfterSwitch: 0 }, /did no work after the switch/],
  ]
  for (const [what, change, pattern] of bad) {
    it(`is bad if ${what}`, () => {
      const verdict = judge({ ...good, ...change })
      assert.equal(verdict.verified, false)
      assert.match(verdict.text, pattern)
    })
  }

  it('expects no work from an idle guest', () => {
    assert.equal(judge({ ...good, workAfterSwitch: 0, isIdle: true }).verified, true)
  })
})

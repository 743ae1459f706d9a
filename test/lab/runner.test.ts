/**
 * Runs alone: experiments change the host.
 */
import assert from 'node:assert/strict'
import { existsSync, readFileSync, readdirSync } from 'node:fs'
import { requires } from '../support/requires.js'
import { runFixture } from './support.js'

/** Fixture, description, verdict, and a pattern for the reason. */
const ends: readonly [string, string, string, RegExp | undefined][] = [
  ['agrees', 'sees what was expected', 'as expected', undefined],
  ['differs', 'sees something else', 'differs', undefined],
  ['forgets', 'does not observe', 'differs', undefined],
  ['of-other-kernels', 'has expectations of several kernels', 'as expected', undefined],
  ['throws', 'throws', 'broken', /threw Error: no such luck/],
  ['exits', 'exits', 'broken', /^ended with status 7 before it reported a result/],
  ['hangs', 'never resolves', 'broken', /^still running after 700 ms \(main thread S/],
  ['loops', 'blocks the event loop', 'broken', /^still running after 700 ms \(main thread R/],
  ['parks', 'parks its main thread', 'broken', /^still running after 700 ms \(main thread S/],
  ['bus-error', 'gets a SIGBUS', 'broken', /^died by SIGBUS/],
  ['segmentation-fault', 'gets a SIGSEGV', 'broken', /^died by SIGSEGV/],
  ['is-killed', 'is killed', 'broken', /^died by SIGKILL/],
  ['gives-up', 'finds that it cannot work', 'not possible here', /^the moon is not full$/],
  ['needs-too-much', 'needs more memory than there is', 'not possible here', /MiB of memory/],
  ['needs-the-future', 'needs a newer kernel', 'not possible here', /^needs Linux 99\.1, this is /],
  ['undeclared', 'changes what it did not declare', 'broken', /is not in the experiment's changes/],
]

describe('a run of the lab', () => {
  for (const [id, title, verdict, reason] of ends) {
    it(`gives "${verdict}" for one that ${title}`, async () => {
      const row = await runFixture(id)
      assert.equal(row.verdict, verdict, row.reason)
      if (reason === undefined) assert.equal(row.reason, undefined)
      else assert.match(row.reason ?? '', reason)
    })
  }

  it('omits facts that could not be observed, with the reason', async () => {
    const row = await runFixture('partly')
    assert.equal(row.verdict, 'as expected')
    const other = row.findings.find(({ name }) => name === 'other')
    assert.equal(other?.unavailable, 'not observed')
  })

  it('reports threads that an experiment has left running, and ends them', async () => {
    const row = await runFixture('leaks-threads')
    assert.equal(row.verdict, 'as expected')
    assert.match(row.notes.join(), /ended with \d+ threads still running/)
  })

  it('names the missing feature on an older kernel', async () => {
    const row = await runFixture('needs-move', { hide: ['MOVE'] })
    assert.equal(row.verdict, 'not possible here')
    assert.equal(row.reason, 'needs UFFD_FEATURE_MOVE (Linux 6.8)')
  })

  it('reports "differs" for a deliberately wrong expectation', async () => {
    const row = await runFixture('copy-partial-wrong')
    assert.equal(row.verdict, 'differs')
    const run = row.findings.find(({ name }) => name === 'run of 4')
    assert.deepEqual(run, {
      name: 'run of 4',
      expected: 'EAGAIN, 4096',
      seen: 'EAGAIN, 8192',
      agrees: false,
    })
  })

  it('restores settings, mounts and control groups after an experiment dies', async function () {
    requires(this, 'root')
    const state = () => ({
      setting: readFileSync('/proc/sys/vm/unprivileged_userfaultfd', 'utf8'),
      mounts: readFileSync('/proc/self/mounts', 'utf8').match(/postcopy-\w+\/mounted/g),
      groups: ['/sys/fs/cgroup/memory', '/sys/fs/cgroup']
        .filter((root) => existsSync(root))
        .flatMap((root) => readdirSync(root))
        .filter((name) => /^postcopy-\w{6}-\d+$/.test(name)),
    })
    const before = state()
    const row = await runFixture('dies-untidy')
    assert.match(row.reason ?? '', /^died by SIGKILL/)
    assert.deepEqual(state(), before)
  })
})

/** The kernel's selftests of write-protect bits: over fork, with a pinned page, unpopulated. */
import { Madv, Mode, experiment, must, outcomeName, step, syscall } from '../index.js'
import type { Lab, LabMemory } from '../index.js'
import { pageBits } from '../page-table.js'
import { selftest } from '../selftest.js'
import type { SelftestKind } from '../selftest.js'
import { awaitMessages, mustRegister } from '../serve.js'

/** Pins memory long-term for writing, as device drivers do: a buffer registered with io_uring. */
function pin(lab: Lab, { address, lengthBytes }: LabMemory): void {
  const ring = syscall('io_uring_setup', 1, new Uint8Array(120))
  if (ring < 0)
    lab.notPossible(`pinning a page needs io_uring, which returned ${outcomeName(ring)}`)
  const iovec = BigInt64Array.of(BigInt(address), BigInt(lengthBytes))
  const registered = syscall('io_uring_register', ring, 0, iovec, 1)
  if (registered < 0) lab.notPossible(`IORING_REGISTER_BUFFERS: ${outcomeName(registered)}`)
}

/** The bits of the parent's and the child's page after fork. */
async function overFork(lab: Lab, kind: SelftestKind, withEvent: boolean, pinned: boolean) {
  const uffd = withEvent ? lab.open('EVENT_FORK') : lab.open()
  const memory = lab.map(kind, { pages: 1 })
  memory.set(0, 1)
  if (pinned) pin(lab, memory)
  mustRegister(uffd, memory, Mode.WP)
  must(uffd.writeProtect(memory.address, memory.pageBytes, 1) === 'ok' ? 0 : -22, 'arming')
  const thread = lab.thread([
    step.fork(step.awaitFlag(0), step.load(memory.address)),
    step.syscall('wait4', -1, new Int32Array(2), 0, 0),
  ])
  const events = await awaitMessages(uffd, 1, withEvent ? 2000 : 50)
  while (!thread.result(0).done) await awaitMessages(uffd, 1, 1)
  const child = must(thread.result(0).value, 'fork')
  const bit = (pid: number | 'self') => pageBits('writeProtected', memory.address, 1, pid)[0] ?? -1
  const seen = { parent: bit('self'), child: bit(child) }
  thread.raiseFlag(0)
  const results = await thread.done()
  uffd.close() // otherwise the fork of the next kind also sends a message here
  return { ...seen, 'FORK messages': events.length, 'the child read': results[2]?.value ?? -1 }
}

const forks = [false, true].flatMap((pinned) =>
  [false, true].map((withEvent) => ({ pinned, withEvent })),
)

export const wpFork = forks.flatMap(({ pinned, withEvent }) =>
  selftest({
    name: `wp-fork${pinned ? '-pin' : ''}${withEvent ? '-with-event' : ''}`,
    question:
      `Does a child ${withEvent ? 'that has its own descriptor' : 'without a descriptor'} inherit ` +
      `the write-protect bit${pinned ? ' of a page that is pinned, and so copied by fork' : ''}?`,
    method: `${pinned ? 'Pins a page by io_uring, arms' : 'Arms'} it, forks, and reads the pagemap of both.`,
    writeProtect: true,
    needs: withEvent ? { root: true, features: ['EVENT_FORK'] } : {},
    expected: () => ({
      values: {
        parent: 1,
        child: withEvent ? 1 : 0,
        'FORK messages': withEvent ? 1 : 0,
        'the child read': 1,
      },
    }),
    run: (lab, kind) => overFork(lab, kind, withEvent, pinned),
  }),
)

export const wpUnpopulatedSelftest = experiment({
  id: 'selftest-wp-unpopulated-anon',
  tags: ['selftests', 'selftest-wp-unpopulated', 'anon'],
  mirrors: ['uffd-unit-tests: wp-unpopulated on anon'],
  question: 'Which pages that were never populated can have write-protect bits?',
  method: 'Arms and unarms an untouched page, a discarded one, the zero page, and a huge one.',
  needs: { features: ['PAGEFAULT_FLAG_WP', 'WP_UNPOPULATED'] },
  expected: {
    values: {
      'untouched: armed, unarmed': [1, 0],
      'armed, then DONTNEED': 0,
      'armed again, then read': 1,
      'zero page: armed, unarmed': [1, 0],
      'untouched 2 MiB, huge pages advised': 1,
    },
    source: 'tools/testing/selftests/mm/uffd-unit-tests.c; kernel-behaviour section 9',
  },
  async run(lab) {
    const uffd = lab.open('PAGEFAULT_FLAG_WP', 'WP_UNPOPULATED')
    const memory = lab.map('anon', { pages: 1 })
    mustRegister(uffd, memory, Mode.WP)
    const set = (enable: number) => {
      must(uffd.writeProtect(memory.address, 4096, enable) === 'ok' ? 0 : -22, 'WRITEPROTECT')
      return pageBits('writeProtected', memory.address, 1)[0] ?? -1
    }
    const untouched = [set(1), set(0)]
    set(1)
    memory.madvise(Madv.DONTNEED)
    const discarded = pageBits('writeProtected', memory.address, 1)[0] ?? -1
    set(1)
    await lab.thread(step.load(memory.address)).done()
    const read = pageBits('writeProtected', memory.address, 1)[0] ?? -1
    memory.madvise(Madv.DONTNEED)
    await lab.thread(step.load(memory.address)).done()
    const zero = [set(1), set(0)]
    const huge = lab.map('anon', { pages: 512, alignBytes: 2 ** 21 })
    huge.madvise(Madv.HUGEPAGE)
    mustRegister(uffd, huge, Mode.WP)
    uffd.writeProtect(huge.address, huge.lengthBytes, 1)
    return {
      'untouched: armed, unarmed': untouched,
      'armed, then DONTNEED': discarded,
      'armed again, then read': read,
      'zero page: armed, unarmed': zero,
      'untouched 2 MiB, huge pages advised': Math.min(
        ...pageBits('writeProtected', huge.address, 512),
      ),
    }
  },
})

/** What UFFDIO_MOVE refuses. Row 48. */
import { setTimeout as sleep } from 'node:timers/promises'
import { Ioctl, Madv, experiment, must, step, syscall } from '../index.js'
import type { Lab, LabMemory } from '../index.js'
import { Category, openPageMap, pagesFound, scanArguments, scanPages } from '../page-table.js'
import { mustRegister } from '../serve.js'

const pageBytes = 4096
const hugeBytes = 2 ** 21
const ksm = (name: string) => `/sys/kernel/mm/ksm/${name}`
const thp = '/sys/kernel/mm/transparent_hugepage/enabled'

/** One mapping of written pages, and one of registered missing pages. */
function pair(lab: Lab, pages = 1, kind: 'anon' | 'shmem' = 'anon') {
  const uffd = lab.open('MOVE')
  const source = lab.map(kind, { pages })
  for (let page = 0; page < pages; page += 1) source.set(page, 6)
  const target = lab.map(kind, { pages })
  mustRegister(uffd, target)
  const move = () => uffd.move(target.address, source.address, pageBytes).errno
  return { uffd, source, target, move }
}

async function forkShared(lab: Lab): Promise<string[]> {
  const { source, move } = pair(lab)
  const thread = lab.thread([
    step.fork(step.awaitFlag(0)),
    step.syscall('wait4', -1, new Int32Array(2), 0, 0),
  ])
  await thread.parks(20)
  const shared = move()
  thread.raiseFlag(0)
  await thread.done()
  const alone = move()
  source.set(0, 7)
  return [shared, alone, move()]
}

/** Calls from a child, whose address space is not the one of the descriptor. */
async function otherMemory(lab: Lab): Promise<string> {
  const { uffd, source, target } = pair(lab)
  const words = [target.address, source.address, pageBytes, 0, 0]
  const argument = lab.keep(BigInt64Array.from(words.map(BigInt)))
  const [, moved] = await lab
    .thread([
      step.fork(step.syscall('ioctl', uffd.fd, Ioctl.MOVE, argument)),
      step.syscall('wait4', -1, new Int32Array(2), 0, 0),
    ])
    .done()
  return moved?.outcome ?? ''
}

async function merged(lab: Lab): Promise<string> {
  const { source, move } = pair(lab, 4)
  must(syscall('madvise', source.address, source.lengthBytes, Madv.MERGEABLE), 'MADV_MERGEABLE')
  lab.set(ksm('pages_to_scan'), 10_000)
  lab.set(ksm('sleep_millisecs'), 1)
  lab.set(ksm('run'), 1)
  const merging = () => Number(lab.readFile('/proc/self/ksm_merging_pages') ?? 0)
  for (let waited = 0; merging() < 3 && waited < 3000; waited += 10) await sleep(10)
  return merging() < 3 ? 'KSM merged nothing' : move()
}

function hugePages({ address }: LabMemory): number {
  const scan = scanArguments({
    start: address,
    end: address + hugeBytes,
    all: Category.HUGE,
    ranges: 8,
  })
  return pagesFound(scan, must(scanPages(openPageMap(), scan).count, 'PAGEMAP_SCAN'))
}

function moveHuge(lab: Lab): (string | number)[] | undefined {
  const [source, target] = [0, 1].map(() => {
    const memory = lab.map('anon', { pages: 512, alignBytes: hugeBytes })
    must(syscall('madvise', memory.address, hugeBytes, Madv.HUGEPAGE), 'MADV_HUGEPAGE')
    return memory
  })
  if (source === undefined || target === undefined) return undefined
  source.set(0, 6)
  if (hugePages(source) !== 512) return undefined
  const uffd = lab.open('MOVE')
  mustRegister(uffd, target)
  const { errno, field } = uffd.move(target.address, source.address, hugeBytes)
  return [errno, field, hugePages(target)]
}

export const moveConstraints = experiment({
  id: 'move-constraints',
  tags: ['fill', 'move', 'ksm', 'thp', 'fork'],
  question: 'Which pages does UFFDIO_MOVE refuse to move?',
  method:
    'A page shared with a child, the same after the child has ended, and after it was written again; ' +
    'merged by KSM; locked; of a memfd; from another process; a whole huge page; a hole.',
  needs: { features: ['MOVE'] },
  changes: [ksm('run'), ksm('pages_to_scan'), ksm('sleep_millisecs')],
  expected: {
    values: {
      'shared, child ended, written': ['EBUSY', 'EBUSY', 'ok'],
      'merged by KSM': 'EBUSY',
      'locked source': 'EINVAL',
      memfd: 'EINVAL',
      'other process': 'EINVAL',
      'huge page': ['ok', hugeBytes, 512],
      hole: 'ENOENT',
      'hole, allowed': 'ok',
    },
    source: 'ioctl_userfaultfd(2), UFFDIO_MOVE; kernel-behaviour 3.3',
  },
  async run(lab) {
    const locked = pair(lab)
    must(syscall('mlock', locked.source.address, pageBytes), 'mlock')
    const hole = pair(lab)
    hole.source.madvise(Madv.DONTNEED)
    const { uffd, source, target } = hole
    const seen: Record<string, string | (string | number)[]> = {
      'shared, child ended, written': await forkShared(lab),
      'locked source': locked.move(),
      memfd: pair(lab, 1, 'shmem').move(),
      'other process': await otherMemory(lab),
      hole: hole.move(),
      'hole, allowed': uffd.move(target.address, source.address, pageBytes, 2).errno,
    }
    const huge = moveHuge(lab)
    if (huge !== undefined) seen['huge page'] = huge
    else lab.unavailable('huge page', `no transparent huge page (${thp}: ${lab.readFile(thp)})`)
    if (!lab.root) lab.unavailable('merged by KSM', 'needs root')
    else if (lab.readFile(ksm('run')) === undefined) lab.unavailable('merged by KSM', 'needs KSM')
    else seen['merged by KSM'] = await merged(lab)
    return seen
  },
})

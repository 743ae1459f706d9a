/** The kernel's selftests of registering and filling. */
import { MapFlag, Madv, Mode, Prot, experiment, must, oneOf, step, syscall } from '../index.js'
import type { Lab, LabMemory } from '../index.js'
import { Category, openPageMap, pagesFound, scanArguments, scanPages } from '../page-table.js'
import { selftest } from '../selftest.js'
import type { SelftestKind } from '../selftest.js'
import { awaitFault, awaitMessages, mustRegister, pageOf, untilPending } from '../serve.js'

const hugeBytes = 2 ** 21
const modes = [0, 1, 2, 3, 4, 5, 6, 7]

/**
 * The ioctl masks of 6.18, for modes 0 to 7; older kernels lack MOVE (0x20) and POISON (0x100).
 */
function masks(kind: SelftestKind): (number | undefined)[] {
  const none = undefined
  if (kind === 'anon') return [none, 0x13c, 0x17c, 0x17c, none, none, none, none]
  return kind.startsWith('shmem')
    ? [none, 0x13c, 0x17c, 0x17c, 0x1bc, 0x1bc, 0x1fc, 0x1fc]
    : [none, 0x10c, 0x14c, 0x14c, 0x18c, 0x18c, 0x1cc, 0x1cc]
}

function masksWithout(kind: SelftestKind, bits: number): string[] {
  return masks(kind).map((mask) => (mask === undefined ? 'EINVAL' : hex(mask - (mask & bits))))
}

function hex(mask: number): string {
  return `0x${mask.toString(16)}`
}

export const registerIoctls = selftest({
  name: 'register-ioctls',
  question: 'Which ioctls does each combination of registration modes offer?',
  method: 'Registers with every mode from 0 to 7 in turn.',
  writeProtect: true,
  expected: (kind) => [
    { since: '6.8', values: { masks: masksWithout(kind, 0) } },
    { since: '6.6', values: { masks: masksWithout(kind, 0x20) } },
    { since: '5.19', values: { masks: masksWithout(kind, 0x120) } },
  ],
  run(lab, kind) {
    const uffd = lab.open()
    const { address, lengthBytes } = lab.map(kind, { pages: 1 })
    const answers = modes.map((mode) => {
      const { errno, ioctls } = uffd.register(address, lengthBytes, mode)
      if (errno === 'ok') uffd.unregister(address, lengthBytes)
      return errno === 'ok' ? hex(ioctls) : errno
    })
    return { masks: answers }
  },
})

export const zeropage = selftest({
  name: 'zeropage',
  question: 'Where does UFFDIO_ZEROPAGE work, and what does it return for a present page?',
  method: 'Zeros a missing page that a thread waits for, twice.',
  expected: (kind) => ({
    values: kind.startsWith('hugetlb')
      ? { first: ['EINVAL', -22] }
      : { first: ['ok', 4096], again: ['EEXIST', -17], 'the thread read': 0 },
  }),
  async run(lab, kind) {
    const uffd = lab.open()
    const memory = lab.map(kind, { pages: 1 })
    const { address, pageBytes } = memory
    mustRegister(uffd, memory)
    const thread = lab.thread(step.load(address))
    await awaitFault(uffd)
    const first = uffd.zeropage(address, pageBytes)
    if (first.errno !== 'ok') return { first: [first.errno, first.field] }
    const again = uffd.zeropage(address, pageBytes)
    const [load] = await thread.done()
    return {
      first: [first.errno, first.field],
      again: [again.errno, again.field],
      'the thread read': load?.value ?? -1,
    }
  },
})

export const poison = selftest({
  name: 'poison',
  question: 'Does UFFDIO_POISON resolve a fault with SIGBUS, and leave the next page unchanged?',
  method: 'Poisons the page that a thread waits for, twice; copies the next one.',
  needs: { features: ['POISON'] },
  expected: () => ({
    values: {
      poison: 'ok',
      'the thread': 'SIGBUS',
      si_code: oneOf(2, 4),
      again: ['EEXIST', -17],
      'next page': 3,
    },
  }),
  async run(lab, kind) {
    const uffd = lab.open('POISON')
    const memory = lab.map(kind, { pages: 2 })
    const { address, pageBytes } = memory
    mustRegister(uffd, memory)
    const thread = lab.thread(step.load(address))
    await awaitFault(uffd)
    const first = uffd.poison(address, pageBytes)
    const [load] = await thread.done()
    const again = uffd.poison(address, pageBytes)
    uffd.copy(memory.page(1), pageOf(3, pageBytes), pageBytes)
    const [next] = await lab.thread(step.load(memory.page(1))).done()
    return {
      poison: first.errno,
      'the thread': load?.outcome ?? '',
      si_code: load?.code ?? -1,
      again: [again.errno, again.field],
      'next page': next?.value ?? -1,
    }
  },
})

function hugeCount({ address }: LabMemory): number {
  const end = address + hugeBytes
  const scan = scanArguments({ start: address, end, all: Category.HUGE, ranges: 8 })
  return pagesFound(scan, must(scanPages(openPageMap(), scan).count, 'PAGEMAP_SCAN'))
}

/** A thread waits in the middle of 2 MiB that are moved as one huge page. */
async function moveHuge(lab: Lab, targetAdvice: number) {
  const [source, target] = [Madv.HUGEPAGE, targetAdvice].map((advice) => {
    const memory = lab.map('anon', { pages: 512, alignBytes: hugeBytes })
    must(syscall('madvise', memory.address, hugeBytes, advice), 'madvise')
    return memory
  })
  if (source === undefined || target === undefined) throw new Error('two mappings')
  for (const page of [0, 300]) source.set(page, 6)
  if (hugeCount(source) !== 512) lab.notPossible('the kernel gave no transparent huge page')
  const uffd = lab.open('MOVE')
  mustRegister(uffd, target)
  const thread = lab.thread(step.load(target.page(300)))
  await awaitFault(uffd)
  const { errno, field } = uffd.move(target.address, source.address, hugeBytes)
  const [load] = await thread.done()
  return {
    move: [errno, field],
    'the thread read': load?.value ?? -1,
    'huge at the target': hugeCount(target),
    'source after that': source.byte(300),
  }
}

const moveNeeds = { features: ['MOVE'] } as const

export const move = selftest({
  name: 'move',
  kinds: ['anon'],
  question: 'Does UFFDIO_MOVE resolve a fault?',
  method: 'Moves a page to an address that a thread waits for.',
  needs: moveNeeds,
  expected: () => ({
    values: { move: ['ok', 4096], 'the thread read': 6, 'source after that': 0 },
  }),
  async run(lab) {
    const uffd = lab.open('MOVE')
    const source = lab.map('anon', { pages: 1 })
    source.set(0, 6)
    const target = lab.map('anon', { pages: 1 })
    mustRegister(uffd, target)
    const thread = lab.thread(step.load(target.address))
    await awaitFault(uffd)
    const { errno, field } = uffd.move(target.address, source.address, 4096)
    const [load] = await thread.done()
    const value = load?.value ?? -1
    return { move: [errno, field], 'the thread read': value, 'source after that': source.byte(0) }
  },
})

export const movePmd = selftest({
  name: 'move-pmd',
  kinds: ['anon'],
  question: 'Does a huge page stay huge if it is moved whole?',
  method: 'Moves one huge page of 2 MiB to a range with MADV_HUGEPAGE that a thread waits for.',
  needs: moveNeeds,
  expected: () => ({
    values: {
      move: ['ok', hugeBytes],
      'the thread read': 6,
      'huge at the target': 512,
      'source after that': 0,
    },
  }),
  run: (lab) => moveHuge(lab, Madv.HUGEPAGE),
})

export const movePmdSplit = selftest({
  name: 'move-pmd-split',
  kinds: ['anon'],
  question: 'Is a huge page split if it is moved to a target without huge pages?',
  method: 'The same, to a target with MADV_NOHUGEPAGE in which the fault has created a page table.',
  needs: moveNeeds,
  expected: () => ({
    values: {
      move: ['ok', hugeBytes],
      'the thread read': 6,
      'huge at the target': 0,
      'source after that': 0,
    },
  }),
  run: (lab) => moveHuge(lab, Madv.NOHUGEPAGE),
})

/** Two mappings of a whole memfd, both aligned to 2 MiB so that huge pages fit. */
function alignedTwice(lab: Lab): { memory: LabMemory; address: number; alias: number } {
  const memory = lab.map('shmem', { pages: 512 })
  const flags = MapFlag.SHARED + MapFlag.FIXED
  const [address = -1, alias = -1] = [0, 1].map(() => {
    const at = lab.map('anon', { pages: 512, alignBytes: hugeBytes }).address
    const { fd } = memory
    return must(syscall('mmap', at, hugeBytes, Prot.READ_WRITE, flags, fd, 0), 'mmap')
  })
  return { memory, address, alias }
}

export const minorCollapse = experiment({
  id: 'selftest-minor-collapse-shmem',
  tags: ['selftests', 'selftest-minor-collapse', 'shmem', 'thp'],
  mirrors: ['uffd-unit-tests: minor-collapse on shmem'],
  question: 'Are faults on shared memory still minor faults if a huge page backs it?',
  method: 'MADV_COLLAPSE of an alias; a thread reads the registered mapping; CONTINUE.',
  needs: { features: ['MINOR_SHMEM'], minimumKernel: '6.1' },
  expected: {
    values: { collapse: 'ok', flags: 4, continue: ['ok', 4096], 'the thread read': 9 },
    source: 'tools/testing/selftests/mm/uffd-unit-tests.c; kernel-behaviour section 9',
  },
  async run(lab) {
    const { address, alias } = alignedTwice(lab)
    must(syscall('madvise', alias, hugeBytes, Madv.POPULATE_WRITE), 'MADV_POPULATE_WRITE')
    const collapse = syscall('madvise', alias, hugeBytes, Madv.COLLAPSE)
    if (collapse < 0) lab.notPossible('MADV_COLLAPSE of shared memory is refused')
    const uffd = lab.open('MINOR_SHMEM')
    mustRegister(uffd, { address, lengthBytes: hugeBytes }, Mode.MINOR)
    const page = address + 300 * 4096
    const thread = lab.thread(step.load(page))
    const { flags } = await awaitFault(uffd)
    await lab.thread(step.store(alias + 300 * 4096, 9)).done()
    const { errno, field } = uffd.continue(page, 4096)
    const [load] = await thread.done()
    return {
      collapse: 'ok',
      flags,
      continue: [errno, field],
      'the thread read': load?.value ?? -1,
    }
  },
})

export const mmapChanging = selftest({
  name: 'mmap-changing',
  kinds: ['shmem'],
  question: 'What do the filling ioctls return while an event is unread?',
  method: 'A thread discards a page; before the REMOVE message is read, each ioctl is tried.',
  needs: { features: ['EVENT_REMOVE', 'POISON', 'MOVE', 'MINOR_SHMEM'] },
  expected: () => {
    const names = ['COPY', 'ZEROPAGE', 'MOVE', 'POISON', 'CONTINUE']
    const all = (field: number) =>
      Object.fromEntries(names.map((name) => [name, ['EAGAIN', field]]))
    return [
      { since: '6.15', values: { ...all(-11), 'COPY after it': 'ok' } },
      { values: { ...all(0), 'COPY after it': 'ok' } },
    ]
  },
  async run(lab) {
    const uffd = lab.open('EVENT_REMOVE', 'POISON', 'MOVE')
    const memory = lab.map('shmem', { pages: 2 })
    const source = lab.map('shmem', { pages: 1 })
    source.set(0, 1)
    mustRegister(uffd, memory)
    uffd.copy(memory.address, pageOf(1), 4096)
    const thread = lab.thread(step.syscall('madvise', memory.address, 4096, Madv.REMOVE))
    await untilPending(uffd)
    const target = memory.page(1)
    const early = {
      COPY: uffd.copy(target, pageOf(2), 4096),
      ZEROPAGE: uffd.zeropage(target, 4096),
      MOVE: uffd.move(target, source.address, 4096),
      POISON: uffd.poison(target, 4096),
      CONTINUE: uffd.continue(target, 4096),
    }
    await awaitMessages(uffd, 1)
    await thread.done()
    const late = uffd.copy(target, pageOf(2), 4096).errno
    const answers = Object.entries(early).map(([name, { errno, field }]) => [name, [errno, field]])
    return { ...(Object.fromEntries(answers) as Record<string, string[]>), 'COPY after it': late }
  },
})

/** Why a destination turns transparent huge pages off, and in which order. Rows 35 to 37. */
import { Madv, Mode, experiment, must, peek, step, syscall } from '../index.js'
import type { Lab, LabMemory } from '../index.js'
import { pageBits } from '../page-table.js'
import { mustRegister, pageOf } from '../serve.js'

const pageBytes = 4096
const hugePages = 512
const hugeBytes = hugePages * pageBytes
const enabled = '/sys/kernel/mm/transparent_hugepage/enabled'

/** 2 MiB that one written byte has filled with a huge page. */
function hugeByOneByte(lab: Lab): LabMemory {
  const memory = lab.map('anon', { pages: hugePages, alignBytes: hugeBytes })
  must(syscall('madvise', memory.address, hugeBytes, Madv.HUGEPAGE), 'MADV_HUGEPAGE')
  memory.set(0, 1)
  if (pageBits('present', memory.page(300), 1)[0] !== 1) {
    lab.notPossible(
      `the kernel gave no transparent huge page (${enabled}: ${lab.readFile(enabled)})`,
    )
  }
  return memory
}

export const thpSilentZero = experiment({
  id: 'thp-silent-zero',
  tags: ['thp', 'destination'],
  question: 'Can a page that was never received read as zeros, without a fault, under a huge page?',
  method: 'Writes one byte with huge pages on, registers, reads page 300, then tries to place it.',
  needs: { files: [enabled] },
  expected: {
    values: { 'page 300 reads as': 0, messages: 0, 'COPY to it': ['EEXIST', -17] },
    source: 'kernel-behaviour 4.4: why a destination turns THP off before it discards',
  },
  async run(lab) {
    const memory = hugeByOneByte(lab)
    const uffd = lab.open()
    mustRegister(uffd, memory)
    const [load] = await lab.thread(step.load(memory.page(300))).done()
    const { errno, field } = uffd.copy(memory.page(300), pageOf(1), pageBytes)
    return {
      'page 300 reads as': load?.value ?? -1,
      messages: uffd.read().length,
      'COPY to it': [errno, field],
    }
  },
})

/** 512 small pages, of which the first `present` are present. */
function smallPages(lab: Lab, present: number): LabMemory {
  const memory = lab.map('anon', { pages: hugePages, alignBytes: hugeBytes })
  must(syscall('madvise', memory.address, hugeBytes, Madv.NOHUGEPAGE), 'MADV_NOHUGEPAGE')
  for (let page = 0; page < present; page += 1) memory.set(page, 1)
  return memory
}

export const thpCollapseArmed = experiment({
  id: 'thp-collapse-armed',
  tags: ['thp', 'madvise'],
  question: 'Does the kernel fill missing pages by collapsing a registered range?',
  method: 'MADV_COLLAPSE of 512 small pages: some missing, none missing, one write-protected.',
  needs: { minimumKernel: '6.1', features: ['PAGEFAULT_FLAG_WP'], files: [enabled] },
  expected: {
    values: {
      'unregistered, 1 of 512 present': ['ok', 'page 300 is present'],
      'registered, 1 of 512 present': ['EBUSY', 'page 300 is missing'],
      'registered, all present': 'ok',
      'one page write-protected': 'EINVAL',
    },
    source: 'kernel-behaviour 4.4',
  },
  run(lab) {
    const collapse = (memory: LabMemory) => {
      must(syscall('madvise', memory.address, hugeBytes, Madv.HUGEPAGE), 'MADV_HUGEPAGE')
      return memory.madvise(Madv.COLLAPSE)
    }
    const page300 = (memory: LabMemory) =>
      pageBits('present', memory.page(300), 1)[0] === 1
        ? 'page 300 is present'
        : 'page 300 is missing'
    const loose = smallPages(lab, 1)
    const looseOutcome = collapse(loose)
    if (looseOutcome === 'ENOMEM') lab.notPossible('no free huge page to collapse into')
    const [partial, full, guarded] = [1, hugePages, hugePages].map((present) => {
      const memory = smallPages(lab, present)
      const uffd = lab.open('PAGEFAULT_FLAG_WP')
      mustRegister(uffd, memory, Mode.MISSING + Mode.WP)
      return { memory, uffd }
    })
    if (partial === undefined || full === undefined || guarded === undefined)
      throw new Error('three')
    guarded.uffd.writeProtect(guarded.memory.page(7), pageBytes, 1)
    return {
      'unregistered, 1 of 512 present': [looseOutcome, page300(loose)],
      'registered, 1 of 512 present': [collapse(partial.memory), page300(partial.memory)],
      'registered, all present': collapse(full.memory),
      'one page write-protected': collapse(guarded.memory),
    }
  },
})

export const thpOrderCorrect = experiment({
  id: 'thp-order-correct',
  tags: ['thp', 'destination', 'discard'],
  question: 'Which order of steps makes every page of a destination fault?',
  method:
    'Memory that a huge page fills: NOHUGEPAGE, DONTNEED, pagemap, REGISTER; then every page is ' +
    'read, and a native thread places it.',
  needs: { files: [enabled] },
  expected: {
    values: {
      'present after the discard': 0,
      'messages for 512 pages': 512,
      'pages that read as zeros': 0,
      'HUGEPAGE at the end': 'ok',
    },
    source: 'kernel-behaviour 4.4: order for a destination',
  },
  async run(lab) {
    const memory = hugeByOneByte(lab)
    must(syscall('madvise', memory.address, hugeBytes, Madv.NOHUGEPAGE), 'MADV_NOHUGEPAGE')
    must(syscall('madvise', memory.address, hugeBytes, Madv.DONTNEED), 'MADV_DONTNEED')
    const left = pageBits('present', memory.address, hugePages).filter((bit) => bit === 1).length
    const uffd = lab.open()
    mustRegister(uffd, memory)
    const responder = lab.responder(uffd.fd, { waiting: 'poll', source: pageOf(9) })
    const sweep = step.sweep(memory.address, { strideBytes: pageBytes, count: hugePages })
    await lab.thread(sweep).done()
    const { messages } = responder.info
    responder.stop()
    const zeros = Array.from({ length: hugePages }, (_, page) => peek(memory.page(page))[0])
    uffd.unregister(memory.address, hugeBytes)
    return {
      'present after the discard': left,
      'messages for 512 pages': messages,
      'pages that read as zeros': zeros.filter((value) => value !== 9).length,
      'HUGEPAGE at the end': memory.madvise(Madv.HUGEPAGE),
    }
  },
})

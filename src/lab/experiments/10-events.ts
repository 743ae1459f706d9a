/** mremap, discards and unmapping under a registration. Rows 26 to 28. */
import { Fill, Madv, MapFlag, Mode, Prot, experiment, must, step, syscall } from '../index.js'
import type { Lab, LabMemory, Step } from '../index.js'
import { pageBits } from '../page-table.js'
import { awaitMessages, mustRegister, pageOf, untilPending } from '../serve.js'

const pageBytes = 4096
const mayMoveFixed = 3

/** Page 0 is present and write-protected, page 1 is missing; with an address to move both to. */
function prepareMove(lab: Lab, withEvent: boolean) {
  const uffd = lab.open('PAGEFAULT_FLAG_WP', ...(withEvent ? (['EVENT_REMAP'] as const) : []))
  const memory = lab.map('anon', { pages: 2 })
  mustRegister(uffd, memory, Mode.MISSING + Mode.WP)
  uffd.copy(memory.address, pageOf(7), pageBytes, Fill.COPY_WP)
  const target = lab.map('anon', { pages: 2, protection: Prot.NONE })
  const { lengthBytes } = memory
  const call = [memory.address, lengthBytes, lengthBytes, mayMoveFixed, target.address] as const
  return { uffd, memory, target, call }
}

export const remapWith = experiment({
  id: 'remap-with',
  tags: ['events', 'remap', 'write-protect'],
  question: 'With EVENT_REMAP, do the registration and the write-protect bits move with mremap?',
  method:
    'Moves two pages, one write-protected and one missing; reads the message; looks at both addresses.',
  needs: { features: ['EVENT_REMAP', 'PAGEFAULT_FLAG_WP'] },
  expected: {
    values: {
      'mremap before the read': 'D',
      'COPY before the read': ['EAGAIN', -11],
      message: ['REMAP', 'old address', 'new address', 8192],
      'WP bit at the new address': 1,
      'COPY to the new address': 'ok',
      'COPY to the old address': 'ENOENT',
    },
    source: 'userfaultfd(2), UFFD_FEATURE_EVENT_REMAP; kernel-behaviour 4.3',
  },
  async run(lab) {
    const { uffd, memory, target, call } = prepareMove(lab, true)
    const thread = lab.thread(step.syscall('mremap', ...call))
    await untilPending(uffd)
    const { state } = thread
    const early = uffd.copy(memory.page(1), pageOf(8), pageBytes)
    const [message] = await awaitMessages(uffd, 1)
    must((await thread.done())[0]?.value ?? -1, 'mremap')
    return {
      'mremap before the read': state,
      'COPY before the read': [early.errno, early.field],
      message:
        message?.event === 'REMAP'
          ? [
              'REMAP',
              message.from === memory.address ? 'old address' : message.from,
              message.to === target.address ? 'new address' : message.to,
              message.length,
            ]
          : [String(message?.event)],
      'WP bit at the new address': pageBits('writeProtected', target.address, 1)[0] ?? -1,
      'COPY to the new address': uffd.copy(target.page(1), pageOf(8), pageBytes).errno,
      'COPY to the old address': uffd.copy(memory.page(1), pageOf(8), pageBytes).errno,
    }
  },
})

export const remapWithout = experiment({
  id: 'remap-without',
  tags: ['events', 'remap', 'write-protect'],
  question: 'Without EVENT_REMAP, what remains of a registration after mremap?',
  method: 'Moves two pages, one write-protected and one missing; looks at the new address.',
  needs: { features: ['PAGEFAULT_FLAG_WP'] },
  expected: {
    // Earlier kernels, except their late stable releases, do not clear the bit.
    since: '6.13',
    values: {
      'WP bit at the new address': 0,
      'COPY to the new address': 'ENOENT',
      'the missing page reads as': 0,
      messages: 0,
    },
    source: 'kernel-behaviour 4.3; Linux 6.13 "mm: clear uffd-wp PTE/PMD state on mremap()"',
  },
  async run(lab) {
    const { uffd, target, call } = prepareMove(lab, false)
    must(syscall('mremap', ...call), 'mremap')
    const bit = pageBits('writeProtected', target.address, 1)[0] ?? -1
    const { errno } = uffd.copy(target.page(1), pageOf(8), pageBytes)
    const [load] = await lab.thread(step.load(target.page(1))).done()
    return {
      'WP bit at the new address': bit,
      'COPY to the new address': errno,
      'the missing page reads as': load?.value ?? -1,
      messages: uffd.read().length,
    }
  },
})

const punchKeepSize = 3

/** Each discard by name: the kind of memory, and the call on its first page. */
const discards: Record<string, readonly ['anon' | 'shmem', (memory: LabMemory) => Step]> = {
  DONTNEED: ['anon', ({ address }) => advise(address, Madv.DONTNEED)],
  REMOVE: ['shmem', ({ address }) => advise(address, Madv.REMOVE)],
  FREE: ['anon', ({ address }) => advise(address, Madv.FREE)],
  PAGEOUT: ['anon', ({ address }) => advise(address, Madv.PAGEOUT)],
  GUARD_INSTALL: ['anon', ({ address }) => advise(address, Madv.GUARD_INSTALL)],
  PUNCH_HOLE: ['shmem', ({ fd }) => step.syscall('fallocate', fd, punchKeepSize, 0, pageBytes)],
  ftruncate: ['shmem', ({ fd }) => step.syscall('ftruncate', fd, 0)],
}

function advise(address: number, advice: number): Step {
  return step.syscall('madvise', address, pageBytes, advice)
}

const removeSource = 'userfaultfd(2), UFFD_FEATURE_EVENT_REMOVE; kernel-behaviour 4.3'
const removeValues = {
  DONTNEED: ['ok', 1],
  REMOVE: ['ok', 1],
  FREE: ['ok', 1],
  PAGEOUT: ['ok', 0],
  PUNCH_HOLE: ['ok', 0],
  ftruncate: ['ok', 0],
}

export const removeTriggers = experiment({
  id: 'remove-triggers',
  tags: ['events', 'discard', 'madvise'],
  question: 'Which ways of removing a page send a REMOVE message?',
  method:
    'Removes a placed page by each call on a thread, and reads messages until the call returns.',
  needs: { features: ['EVENT_REMOVE', 'MISSING_SHMEM'] },
  expected: [
    { since: '6.13', values: { ...removeValues, GUARD_INSTALL: ['ok', 0] }, source: removeSource },
    { values: { ...removeValues, GUARD_INSTALL: ['EINVAL', 0] }, source: removeSource },
  ],
  async run(lab) {
    const seen: Record<string, [string, number]> = {}
    for (const [name, [kind, call]] of Object.entries(discards)) {
      const uffd = lab.open('EVENT_REMOVE')
      const memory = lab.map(kind, { pages: 1 })
      mustRegister(uffd, memory)
      uffd.copy(memory.address, pageOf(1), pageBytes)
      const thread = lab.thread(call(memory))
      let messages = 0
      while (!thread.finished) messages += (await awaitMessages(uffd, 1, 1)).length
      seen[name] = [thread.result(0).outcome, messages + uffd.read().length]
    }
    return seen
  },
})

export const unmapFixed = experiment({
  id: 'unmap-fixed',
  tags: ['events', 'unmap'],
  question:
    'Which messages do munmap and mmap over registered memory send, and do they wait for the reader?',
  method: 'A thread unmaps one page and maps over another; each message is read with a delay.',
  needs: { features: ['EVENT_UNMAP'] },
  expected: {
    values: {
      munmap: ['D', 'UNMAP', 0, 1],
      'COPY before the read': ['EAGAIN', -11],
      'COPY after it': 'ENOENT',
      'mmap(MAP_FIXED)': ['D', 'UNMAP', 2, 3],
    },
    source: 'userfaultfd(2), UFFD_FEATURE_EVENT_UNMAP; kernel-behaviour 4.3',
  },
  async run(lab) {
    const uffd = lab.open('EVENT_UNMAP')
    const memory = lab.map('anon', { pages: 4 })
    mustRegister(uffd, memory)
    const unmap = lab.thread(step.syscall('munmap', memory.address, pageBytes))
    await untilPending(uffd)
    const early = uffd.copy(memory.page(1), pageOf(1), pageBytes)
    const unmapped = await describeUnmap(unmap, uffd, memory)
    const late = uffd.copy(memory.address, pageOf(1), pageBytes)
    const flags = MapFlag.PRIVATE + MapFlag.ANONYMOUS + MapFlag.FIXED
    const over = lab.thread(
      step.syscall('mmap', memory.page(2), pageBytes, Prot.READ_WRITE, flags, -1, 0),
    )
    await untilPending(uffd)
    return {
      munmap: unmapped,
      'COPY before the read': [early.errno, early.field],
      'COPY after it': late.errno,
      'mmap(MAP_FIXED)': await describeUnmap(over, uffd, memory),
    }
  },
})

/** The thread's state before the read, the message's name and its range in pages. */
async function describeUnmap(
  thread: ReturnType<Lab['thread']>,
  uffd: ReturnType<Lab['open']>,
  { address }: LabMemory,
): Promise<(string | number)[]> {
  const { state } = thread
  const [message] = await awaitMessages(uffd, 1)
  await thread.done()
  if (message?.event !== 'UNMAP') return [state, String(message?.event)]
  const { start, end } = message
  return [state, 'UNMAP', (start - address) / pageBytes, (end - address) / pageBytes]
}

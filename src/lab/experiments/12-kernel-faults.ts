/** Faults in kernel mode, also with user-mode-only and SIGBUS descriptors. Rows 31, 34, 38. */
import { openSync } from 'node:fs'
import { Madv, Mode, experiment, must, oneOf, step, syscall } from '../index.js'
import type { Lab, RawUserfaultfd, Step } from '../index.js'
import { awaitMessages, isFault, mustRegister, pageOf, serveUntilDone } from '../serve.js'

const pageBytes = 4096

/** `waits` if the step parks with a message, else its outcome. */
async function outcomeOf(lab: Lab, uffd: RawUserfaultfd, page: number, access: Step) {
  const thread = lab.thread(access)
  while (!thread.finished) {
    if ((await awaitMessages(uffd, 1, 5)).length === 0) continue
    uffd.copy(page, pageOf(1), pageBytes)
    await thread.done()
    return 'waits'
  }
  return thread.result(0).outcome
}

/** One descriptor's column of the table: each kind of access, on a page of its own. */
async function touchInEveryWay(lab: Lab, uffd: RawUserfaultfd): Promise<string[]> {
  const memory = lab.map('anon', { pages: 4 })
  mustRegister(uffd, memory)
  const pipe = new Int32Array(2)
  must(syscall('pipe2', pipe, 0), 'pipe2')
  const buffer = lab.map('anon', { pages: 1 })
  buffer.set(0, 1)
  const iovec = (address: number) => BigInt64Array.of(BigInt(address), BigInt(pageBytes))
  const zero = openSync('/dev/zero', 'r')
  const accesses = [
    step.load(memory.page(0)),
    step.syscall('read', zero, memory.page(1), pageBytes),
    step.syscall('write', pipe[1] ?? -1, memory.page(2), pageBytes),
    step.syscall(
      'process_vm_readv',
      process.pid,
      lab.keep(iovec(buffer.address)),
      1,
      lab.keep(iovec(memory.page(3))),
      1,
      0,
    ),
  ]
  const outcomes: string[] = []
  for (const [page, access] of accesses.entries()) {
    outcomes.push(await outcomeOf(lab, uffd, memory.page(page), access))
  }
  return outcomes
}

export const kernelFault = experiment({
  id: 'kernel-fault',
  tags: ['faults', 'kernel-faults', 'sigbus'],
  question: 'What do system calls with missing buffers return, by kind of descriptor?',
  method:
    'A load, read(2) into, write(2) from and process_vm_readv(2) of missing pages, with a plain, a ' +
    'user-mode-only and a SIGBUS descriptor. Lists are in this order.',
  needs: { features: ['SIGBUS'], minimumKernel: '5.11' },
  expected: {
    values: {
      plain: ['waits', 'waits', 'waits', 'waits'],
      'user-mode only': ['waits', 'EFAULT', 'EFAULT', 'EFAULT'],
      SIGBUS: ['SIGBUS', 'EFAULT', 'EFAULT', 'EFAULT'],
    },
    source: 'userfaultfd(2), UFFD_USER_MODE_ONLY and UFFD_FEATURE_SIGBUS; kernel-behaviour 4.5',
  },
  async run(lab) {
    const seen: Record<string, string[]> = {
      'user-mode only': await touchInEveryWay(lab, lab.openWith({ userModeOnly: true })),
      SIGBUS: await touchInEveryWay(lab, lab.open('SIGBUS')),
    }
    if (lab.kernelFaults) seen['plain'] = await touchInEveryWay(lab, lab.open())
    else lab.unavailable('plain', 'needs a descriptor that handles faults of the kernel')
    return seen
  },
})

export const poisonSigbus = experiment({
  id: 'poison-sigbus',
  tags: ['poison', 'sigbus', 'fork'],
  question:
    'What does an access to a poisoned page cause, does a child inherit it, and what removes the poison?',
  method:
    'UFFDIO_POISON of a missing page; touched from user mode, by read(2), by MADV_POPULATE_WRITE, by ' +
    'a child, after UNREGISTER and after MADV_DONTNEED.',
  needs: { features: ['POISON'] },
  expected: {
    values: {
      touch: ['SIGBUS', 'at the address touched'],
      // BUS_ADRERR without CONFIG_MEMORY_FAILURE, BUS_MCEERR_AR with it.
      si_code: oneOf(2, 4),
      'read(2)': 'EFAULT',
      POPULATE_WRITE: 'EHWPOISON',
      'in a child': 'SIGBUS',
      'after UNREGISTER': 'SIGBUS',
      'after DONTNEED': 'ok',
    },
    source: 'UFFDIO_POISON in ioctl_userfaultfd(2); kernel-behaviour 4.5',
  },
  async run(lab) {
    const uffd = lab.open('POISON')
    const memory = lab.map('anon', { pages: 1 })
    const { address } = memory
    mustRegister(uffd, memory)
    must(uffd.poison(address, pageBytes).errno === 'ok' ? 0 : -22, 'UFFDIO_POISON')
    const zero = openSync('/dev/zero', 'r')
    const thread = lab.thread([
      step.load(address + 0x123),
      step.syscall('read', zero, address, pageBytes),
      step.syscall('madvise', address, pageBytes, Madv.POPULATE_WRITE),
      step.fork(step.load(address)),
      step.syscall('wait4', -1, new Int32Array(2), 0, 0),
    ])
    const [touch, read, populate, , child] = await thread.done()
    uffd.unregister(address, pageBytes)
    const [unregistered] = await lab.thread(step.load(address)).done()
    memory.madvise(Madv.DONTNEED)
    const [cleared] = await lab.thread(step.load(address)).done()
    const where = touch?.address === address + 0x123 ? 'at the address touched' : 'elsewhere'
    return {
      touch: [touch?.outcome ?? '', where],
      si_code: touch?.code ?? -1,
      'read(2)': read?.outcome ?? '',
      POPULATE_WRITE: populate?.outcome ?? '',
      'in a child': child?.outcome ?? '',
      'after UNREGISTER': unregistered?.outcome ?? '',
      'after DONTNEED': cleared?.outcome ?? '',
    }
  },
})

const populating = {
  mlock: (address: number, bytes: number) => step.syscall('mlock', address, bytes),
  POPULATE_WRITE: (address: number, bytes: number) =>
    step.syscall('madvise', address, bytes, Madv.POPULATE_WRITE),
  POPULATE_READ: (address: number, bytes: number) =>
    step.syscall('madvise', address, bytes, Madv.POPULATE_READ),
}

export const mlockFaults = experiment({
  id: 'mlock-faults',
  tags: ['faults', 'kernel-faults', 'madvise'],
  question: 'Do mlock and MADV_POPULATE wait for missing pages, and as which kind of access?',
  method:
    'mlock, POPULATE_WRITE and POPULATE_READ of four missing pages, each placed when its message is ' +
    'read; then the same with a SIGBUS descriptor. Messages and their flags.',
  needs: { minimumKernel: '5.14', features: ['SIGBUS'] },
  expected: {
    values: {
      mlock: ['ok', 4, 1],
      POPULATE_WRITE: ['ok', 4, 1],
      POPULATE_READ: ['ok', 4, 0],
      'mlock, SIGBUS': 'ENOMEM',
      'POPULATE_WRITE, SIGBUS': 'EFAULT',
      'POPULATE_READ, SIGBUS': 'EFAULT',
    },
    source: 'kernel-behaviour 4.4; madvise(2): MADV_POPULATE_READ',
  },
  async run(lab) {
    const seen: Record<string, string | (string | number)[]> = {}
    for (const [name, call] of Object.entries(populating)) {
      const quiet = lab.open('SIGBUS')
      const refused = lab.map('anon')
      mustRegister(quiet, refused)
      const [refusal] = await lab.thread(call(refused.address, refused.lengthBytes)).done()
      seen[`${name}, SIGBUS`] = refusal?.outcome ?? ''
      if (!lab.kernelFaults) {
        lab.unavailable(name, 'needs a descriptor that handles faults of the kernel')
        continue
      }
      const uffd = lab.open()
      const memory = lab.map('anon')
      mustRegister(uffd, memory, Mode.MISSING)
      const thread = lab.thread(call(memory.address, memory.lengthBytes))
      const faults = (
        await serveUntilDone(uffd, thread, (message) => {
          if (isFault(message)) uffd.copy(message.address, pageOf(1), pageBytes)
        })
      ).filter(isFault)
      const flags = [...new Set(faults.map((fault) => fault.flags))]
      seen[name] = [thread.result(0).outcome, faults.length, ...flags]
    }
    return seen
  },
})

/** The kernel's selftests of minor faults, SIGBUS and events. */
import { Fill, Madv, Mode, RawUserfaultfd, must, step } from '../index.js'
import type { Lab, LabMemory, LabThread, Message } from '../index.js'
import { pageBits } from '../page-table.js'
import { selftest } from '../selftest.js'
import type { SelftestKind } from '../selftest.js'
import {
  awaitFault,
  awaitMessages,
  isFault,
  mustRegister,
  pageOf,
  serveUntilDone,
} from '../serve.js'

const mayMoveFixed = 3

async function minorFault(lab: Lab, kind: SelftestKind, writeProtect: boolean) {
  const uffd = lab.open()
  const memory = lab.map(kind, { pages: 1, alias: true })
  const { address, alias, pageBytes } = memory
  await lab.thread(step.store(alias, 0x0f)).done()
  mustRegister(uffd, memory, Mode.MINOR + (writeProtect ? Mode.WP : 0))
  const thread = lab.thread(step.load(address))
  const { flags } = await awaitFault(uffd)
  await lab.thread(step.store(alias, 0xf0)).done()
  const mode = writeProtect ? Fill.CONTINUE_WP : 0
  const { errno, field } = uffd.continue(address, pageBytes, mode)
  const [load] = await thread.done()
  const seen = { flags, continue: [errno, field], 'the thread read': load?.value ?? -1 }
  if (!writeProtect) return seen
  const bit = pageBits('writeProtected', address, 1)[0] ?? -1
  const writer = lab.thread(step.store(address, 1))
  const fault = await awaitFault(uffd)
  uffd.writeProtect(address, pageBytes, 0)
  await writer.done()
  return { ...seen, 'write-protect bit': bit, 'flags of a write': fault.flags }
}

const minorValues = (kind: SelftestKind) => ({
  flags: 4,
  continue: ['ok', kind === 'hugetlb' ? 2 ** 21 : 4096],
  'the thread read': 0xf0,
})

export const minor = selftest({
  name: 'minor',
  kinds: ['shmem', 'hugetlb'],
  minor: true,
  question:
    'Does UFFDIO_CONTINUE resolve a minor fault, with the content that an alias wrote last?',
  method: 'A thread waits for a page that is in the cache; its content is changed; CONTINUE.',
  expected: (kind) => ({ values: minorValues(kind) }),
  run: (lab, kind) => minorFault(lab, kind, false),
})

export const minorWp = selftest({
  name: 'minor-wp',
  kinds: ['shmem', 'hugetlb'],
  minor: true,
  writeProtect: true,
  question: 'Can CONTINUE install a page that is write-protected?',
  method: 'The same with UFFDIO_CONTINUE_MODE_WP; then a thread writes.',
  needs: { minimumKernel: '6.4' },
  expected: (kind) => ({
    values: { ...minorValues(kind), 'write-protect bit': 1, 'flags of a write': 3 },
  }),
  run: (lab, kind) => minorFault(lab, kind, true),
})

const sigbusNeeds = { features: ['SIGBUS'] } as const

export const sigbus = selftest({
  name: 'sigbus',
  question: 'With the SIGBUS feature, what does a missing page do?',
  method: 'A thread writes to it; it is placed; a thread writes again.',
  needs: sigbusNeeds,
  expected: () => ({ values: { missing: 'SIGBUS', messages: 0, placed: 'ok' } }),
  async run(lab, kind) {
    const uffd = lab.open('SIGBUS')
    const memory = lab.map(kind, { pages: 1 })
    const { address, pageBytes } = memory
    mustRegister(uffd, memory)
    const [missing] = await lab.thread(step.store(address, 2)).done()
    uffd.copy(address, pageOf(1, pageBytes), pageBytes)
    const [placed] = await lab.thread(step.store(address, 2)).done()
    const messages = uffd.read().length
    return { missing: missing?.outcome ?? '', messages, placed: placed?.outcome ?? '' }
  },
})

export const sigbusWp = selftest({
  name: 'sigbus-wp',
  question: 'With the SIGBUS feature, what does a write-protected page do?',
  method: 'A thread reads and writes a page that COPY placed write-protected; it is unprotected.',
  writeProtect: true,
  needs: sigbusNeeds,
  expected: () => ({
    values: { read: 1, write: 'SIGBUS', messages: 0, 'write after that': 'ok' },
  }),
  async run(lab, kind) {
    const uffd = lab.open('SIGBUS')
    const memory = lab.map(kind, { pages: 1 })
    const { address, pageBytes } = memory
    mustRegister(uffd, memory, Mode.MISSING + Mode.WP)
    uffd.copy(address, pageOf(1, pageBytes), pageBytes, Fill.COPY_WP)
    const [read, write] = await lab.thread([step.load(address), step.store(address, 2)]).done()
    uffd.writeProtect(address, pageBytes, 0)
    const [after] = await lab.thread(step.store(address, 2)).done()
    return {
      read: read?.value ?? -1,
      write: write?.outcome ?? '',
      messages: uffd.read().length,
      'write after that': after?.outcome ?? '',
    }
  },
})

const pages = 3

/** A child touches every page, moves them, discards the first one and touches it again. */
function childOf(lab: Lab, memory: LabMemory, target: number, writes: boolean): LabThread {
  const { address, lengthBytes, pageBytes, kind } = memory
  const touch = (start: number) =>
    Array.from({ length: pages }, (_, page) => {
      const at = start + page * pageBytes
      return writes ? step.store(at + 1, 77) : step.load(at)
    })
  const discard = kind.endsWith('-private') || kind === 'anon' ? Madv.DONTNEED : Madv.REMOVE
  const steps = [
    ...touch(address),
    step.syscall('mremap', address, lengthBytes, lengthBytes, mayMoveFixed, target),
    ...touch(target),
    step.syscall('madvise', target, pageBytes, discard),
    ...touch(target),
    ...Array.from({ length: pages }, (_, page) => step.load(target + page * pageBytes)),
  ]
  return lab.thread([step.fork(...steps), step.syscall('wait4', -1, new Int32Array(2), 0, 0)])
}

const wp = (flags: number) => Math.floor(flags / 2) % 2 === 1

async function eventsUnderFaults(lab: Lab, kind: SelftestKind, writeProtect: boolean) {
  const uffd = lab.open('EVENT_FORK', 'EVENT_REMAP', 'EVENT_REMOVE')
  const memory = lab.map(kind, { pages })
  const target = lab.map(kind, { pages })
  mustRegister(uffd, memory, Mode.MISSING + (writeProtect ? Mode.WP : 0))
  const thread = childOf(lab, memory, target.address, writeProtect)
  const [fork] = await awaitMessages(uffd, 1)
  if (fork?.event !== 'FORK') throw new Error(`expected FORK, got ${String(fork?.event)}`)
  const child = new RawUserfaultfd(fork.fd)
  let base = memory.address
  const messages = await serveUntilDone(child, thread, (message: Message) => {
    if (message.event === 'REMAP') base = message.to
    if (isFault(message)) resolve(child, memory, base, message)
  })
  uffd.close() // otherwise the fork of the next kind also sends a message here
  const faults = messages.filter(isFault)
  const count = (event: Message['event']) => messages.filter((each) => each.event === event).length
  const results = thread.results.slice(1, -1)
  return {
    'FORK, REMAP, REMOVE': [1, count('REMAP'), count('REMOVE')],
    'missing faults': faults.filter(({ flags }) => !wp(flags)).length,
    'write-protect faults': faults.filter(({ flags }) => wp(flags)).length,
    'steps that failed': results.filter(({ outcome }) => outcome !== 'ok').length,
    content: results.slice(-pages).map(({ value }) => value),
  }

  function resolve(
    from: RawUserfaultfd,
    { pageBytes }: LabMemory,
    start: number,
    { address, flags }: { address: number; flags: number },
  ): void {
    const page = (address - start) / pageBytes
    if (wp(flags)) {
      must(from.writeProtect(address, pageBytes, 0) === 'ok' ? 0 : -22, 'WRITEPROTECT')
    } else {
      const mode = writeProtect ? Fill.COPY_WP : 0
      from.copy(address, pageOf(10 + page, pageBytes), pageBytes, mode)
    }
  }
}

export const events = [false, true].flatMap((writeProtect) =>
  selftest({
    name: writeProtect ? 'events-wp' : 'events',
    writeProtect,
    // For two kinds, 3 pages and 3 to move them to; 3 more for the private one, whose child
    // inherits no reservation.
    hugePages: 15,
    question:
      'Do FORK, REMAP and REMOVE leave a child with the right pages' +
      (writeProtect ? ', write-protected ones too?' : '?'),
    method:
      'A child touches its pages, moves them, discards one, and touches them again, while its ' +
      'messages are answered through the descriptor of the FORK message.',
    needs: { root: true, features: ['EVENT_FORK', 'EVENT_REMAP', 'EVENT_REMOVE'] },
    expected: () => ({
      values: {
        'FORK, REMAP, REMOVE': [1, 1, 1],
        'missing faults': pages + 1,
        'write-protect faults': writeProtect ? pages + 1 : 0,
        'steps that failed': 0,
        content: [10, 11, 12],
      },
    }),
    run: (lab, kind) => eventsUnderFaults(lab, kind, writeProtect),
  }),
)

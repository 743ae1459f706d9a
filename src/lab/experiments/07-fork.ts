/** fork(2) with and without EVENT_FORK. Rows 24 and 25. */
import { Mode, RawUserfaultfd, experiment, must, step, syscall } from '../index.js'

const pageBytes = 4096

/** The descriptor flags and status flags of a descriptor, by fcntl(2). */
function flagsOf(fd: number): string[] {
  const closeOnExec = must(syscall('fcntl', fd, 1), 'F_GETFD') % 2 === 1
  const nonBlocking = Math.floor(must(syscall('fcntl', fd, 3), 'F_GETFL') / 0o4000) % 2 === 1
  return [...(closeOnExec ? ['CLOEXEC'] : []), ...(nonBlocking ? ['NONBLOCK'] : [])]
}

export const forkEvent = experiment({
  id: 'fork-event',
  tags: ['events', 'fork'],
  question:
    "With EVENT_FORK, does the parent wait for the reader, and which descriptor gets the child's faults?",
  method:
    'A thread forks; its state before and after the FORK message is read; the child then reads a ' +
    'missing page, which is served through the new descriptor, and ends.',
  needs: { root: true, features: ['EVENT_FORK'] },
  expected: {
    values: {
      'parent before the read': 'D',
      'COPY before the read': ['EAGAIN', -11],
      'flags of the new descriptor': ['CLOEXEC', 'NONBLOCK'],
      'messages on the old one': 0,
      'messages on the new one': 1,
      'child read': 9,
      'COPY after the child ended': 'ESRCH',
    },
    source: 'userfaultfd(2), UFFD_FEATURE_EVENT_FORK; kernel-behaviour 4.3',
  },
  async run(lab) {
    const uffd = lab.open('EVENT_FORK')
    const memory = lab.map('anon', { pages: 2 })
    uffd.register(memory.address, memory.lengthBytes, Mode.MISSING)
    const thread = lab.thread([
      step.fork(step.load(memory.address)),
      step.syscall('wait4', -1, new Int32Array(2), 0, 0),
    ])
    await thread.parks()
    const state = thread.state
    const bytes = new Uint8Array(pageBytes).fill(9)
    const early = uffd.copy(memory.page(1), bytes, pageBytes)
    const [message] = uffd.read()
    if (message?.event !== 'FORK') throw new Error(`expected FORK, got ${String(message?.event)}`)
    const child = new RawUserfaultfd(message.fd)
    // The parent now waits for its child, which is parked on the page.
    await thread.parks()
    const faults = child.read().length
    const old = uffd.read().length
    child.copy(memory.address, bytes, pageBytes)
    const results = await thread.done()
    return {
      'parent before the read': state,
      'COPY before the read': [early.errno, early.field],
      'flags of the new descriptor': flagsOf(message.fd),
      'messages on the old one': old,
      'messages on the new one': faults,
      'child read': results[1]?.value ?? -1,
      'COPY after the child ended': child.copy(memory.page(1), bytes, pageBytes).errno,
    }
  },
})

export const forkSilentZero = experiment({
  id: 'fork-silent-zero',
  tags: ['events', 'fork'],
  question: 'Without EVENT_FORK, what does a child read from a page that is missing?',
  method: 'A thread forks; the child reads a missing page, the parent reads the messages.',
  expected: {
    values: { 'child read': 0, messages: 0, 'the parent still faults': true },
    source: "kernel-behaviour 4.3: the child's copy is not registered",
  },
  async run(lab) {
    const uffd = lab.open()
    const memory = lab.map('anon', { pages: 1 })
    uffd.register(memory.address, memory.lengthBytes, Mode.MISSING)
    const results = await lab
      .thread([
        step.fork(step.load(memory.address)),
        step.syscall('wait4', -1, new Int32Array(2), 0, 0),
      ])
      .done()
    return {
      'child read': results[1]?.outcome === 'ok' ? results[1].value : -1,
      messages: uffd.read().length,
      'the parent still faults': await lab.thread(step.load(memory.address)).parks(),
    }
  },
})

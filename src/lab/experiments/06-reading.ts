/** Reading messages: sizes, readiness, order, and fills while an event waits. Rows 20 to 23. */
import { Madv, Mode, experiment, must, oneOf, outcomeName, step, syscall } from '../index.js'
import type { Lab, LabMemory, RawUserfaultfd } from '../index.js'

const pageBytes = 4096
const epollIn = 1
const epollEdge = 2147483648 // EPOLLET, bit 31

export const shortRead = experiment({
  id: 'short-read',
  tags: ['messages', 'errors'],
  question: 'What does read(2) return for buffers that are too small, odd, large, or invalid?',
  method: 'Five threads park; reads of 16 and 33 bytes, into a bad pointer, and of 256 bytes.',
  expected: {
    values: {
      '16 bytes': 'EINVAL',
      '33 bytes': 32,
      'bad pointer': 'EFAULT',
      '256 bytes': 96,
      'messages lost to the bad pointer': 1,
    },
    source: 'kernel-behaviour 4.2',
  },
  async run(lab) {
    const uffd = lab.open()
    const memory = lab.map('anon', { pages: 5 })
    uffd.register(memory.address, memory.lengthBytes, Mode.MISSING)
    const threads = [0, 1, 2, 3, 4].map((page) => lab.thread(step.load(memory.page(page))))
    await Promise.all(threads.map((thread) => thread.parks()))
    const read = (bytes: number) => syscall('read', uffd.fd, new Uint8Array(256), bytes)
    const short = outcomeName(read(16))
    const odd = read(33)
    const bad = outcomeName(syscall('read', uffd.fd, 16 * pageBytes, 32))
    const many = read(256)
    return {
      '16 bytes': short,
      '33 bytes': odd,
      'bad pointer': bad,
      '256 bytes': many,
      'messages lost to the bad pointer': 5 - (odd + many) / 32,
    }
  },
})

/** Whether epoll reports: after two faults, after one read, after a third fault, and once more. */
async function readiness(lab: Lab, edge: boolean): Promise<number[]> {
  const uffd = lab.open()
  const memory = lab.map('anon', { pages: 3 })
  uffd.register(memory.address, memory.lengthBytes, Mode.MISSING)
  const epoll = must(syscall('epoll_create1', 0), 'epoll_create1')
  // struct epoll_event is packed on x86-64 and padded elsewhere; its data field is not used.
  const event = new Uint32Array([epollIn + (edge ? epollEdge : 0), 0, 0, 0])
  must(syscall('epoll_ctl', epoll, 1, uffd.fd, event), 'epoll_ctl')
  const ready = () => syscall('epoll_pwait', epoll, new Uint32Array(16), 4, 0, 0, 0)
  await lab.thread(step.load(memory.page(0))).parks()
  await lab.thread(step.load(memory.page(1))).parks()
  const first = ready()
  uffd.read(1)
  const second = ready()
  await lab.thread(step.load(memory.page(2))).parks()
  return [first, second, ready(), ready()]
}

export const epollEdgeTriggered = experiment({
  id: 'epoll-edge',
  tags: ['messages', 'threads'],
  question: 'Does edge-triggered epoll report a second unread message?',
  method: 'Two faults, one of them is read, then a third fault; epoll_wait(2) after each step.',
  expected: {
    values: { 'edge-triggered': [1, 0, 1, 0], 'level-triggered': [1, 1, 1, 1] },
    source: 'epoll(7); kernel-behaviour 4.2',
  },
  async run(lab) {
    return {
      'edge-triggered': await readiness(lab, true),
      'level-triggered': await readiness(lab, false),
    }
  },
})

/** Memory with all pages present, registered with EVENT_REMOVE. */
function watched(lab: Lab, pages: number): { uffd: RawUserfaultfd; memory: LabMemory } {
  const uffd = lab.open('EVENT_REMOVE')
  const memory = lab.map('anon', { pages })
  uffd.register(memory.address, memory.lengthBytes, Mode.MISSING)
  const bytes = new Uint8Array(memory.lengthBytes).fill(1)
  must(uffd.copy(memory.address, bytes, memory.lengthBytes).errno === 'ok' ? 0 : -1, 'UFFDIO_COPY')
  return { uffd, memory }
}

function discard(lab: Lab, memory: LabMemory, page: number) {
  return lab.thread(step.syscall('madvise', memory.page(page), pageBytes, Madv.DONTNEED))
}

export const faultBeforeEvent = experiment({
  id: 'fault-before-event',
  tags: ['messages', 'events'],
  question: 'In which order are a fault and earlier events read?',
  method:
    'Two threads discard a page each, which queues two REMOVE; then a thread faults; one read(2).',
  needs: { features: ['EVENT_REMOVE'] },
  expected: {
    values: { order: ['PAGEFAULT', 'REMOVE', 'REMOVE'], 'states before': ['D', 'D', 'S'] },
    source: 'fs/userfaultfd.c: pending faults are read first; kernel-behaviour 4.2',
  },
  async run(lab) {
    const { uffd, memory } = watched(lab, 3)
    const extra = lab.map('anon', { pages: 1 })
    uffd.register(extra.address, pageBytes, Mode.MISSING)
    const threads = [discard(lab, memory, 0), discard(lab, memory, 1)]
    await Promise.all(threads.map((thread) => thread.parks()))
    threads.push(lab.thread(step.load(extra.address)))
    await threads[2]?.parks()
    const states = threads.map(({ state }) => state)
    return { order: uffd.read().map(({ event }) => event), 'states before': states }
  },
})

export const eventEagain = experiment({
  id: 'event-eagain',
  tags: ['events', 'fill', 'errors'],
  question: 'What do the filling ioctls return while an event is unread?',
  method:
    'A thread discards a page; each fill is tried while REMOVE is unread, and COPY once more after the read.',
  needs: { features: ['EVENT_REMOVE', 'POISON', 'MOVE'] },
  expected: [
    {
      since: '6.15',
      values: {
        COPY: ['EAGAIN', -11],
        ZEROPAGE: ['EAGAIN', -11],
        CONTINUE: ['EAGAIN', -11],
        POISON: ['EAGAIN', -11],
        MOVE: ['EAGAIN', -11],
        WRITEPROTECT: 'EAGAIN',
        'two events, one read': 'EAGAIN',
        'all read': 'ok',
      },
      source: 'kernel-behaviour 3.2, 4.3; the field is written since about 6.15',
    },
    {
      values: {
        ...Object.fromEntries(
          ['COPY', 'ZEROPAGE', 'CONTINUE', 'POISON', 'MOVE'].map((name) => [
            name,
            oneOf(['EAGAIN', -11], ['EAGAIN', 0]),
          ]),
        ),
        WRITEPROTECT: 'EAGAIN',
        'two events, one read': 'EAGAIN',
        'all read': 'ok',
      },
      source: 'older kernels leave the field as it was: kernel-behaviour 3.2',
    },
  ],
  mirrors: ['uffd-unit-tests: mmap-changing'],
  async run(lab) {
    const { uffd, memory } = watched(lab, 4)
    const armed = lab.map('anon', { pages: 1 })
    uffd.register(armed.address, pageBytes, Mode.WP)
    const threads = [discard(lab, memory, 0), discard(lab, memory, 1)]
    await Promise.all(threads.map((thread) => thread.parks()))
    const bytes = new Uint8Array(pageBytes).fill(2)
    const { page } = memory
    const show = ({ errno, field }: { errno: string; field: number }) => [errno, field]
    const pending = {
      COPY: show(uffd.copy(page(0), bytes, pageBytes)),
      ZEROPAGE: show(uffd.zeropage(page(0), pageBytes)),
      CONTINUE: show(uffd.continue(page(0), pageBytes)),
      POISON: show(uffd.poison(page(0), pageBytes)),
      MOVE: show(uffd.move(page(0), page(3), pageBytes)),
      WRITEPROTECT: uffd.writeProtect(armed.address, pageBytes, 1),
    }
    uffd.read(1)
    const oneRead = uffd.copy(page(0), bytes, pageBytes).errno
    uffd.read(1)
    await Promise.all(threads.map((thread) => thread.done()))
    return {
      ...pending,
      'two events, one read': oneRead,
      'all read': uffd.copy(page(0), bytes, pageBytes).errno,
    }
  },
})

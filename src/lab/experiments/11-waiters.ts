/**
 * What ends the wait of a faulting thread besides a fill, and how signals
 * affect it. Rows 29, 30, 32, 33.
 */
import { openSync } from 'node:fs'
import { atLeast, experiment, must, step, syscall, userSignalCount } from '../index.js'
import type { LabThread, RawUserfaultfd } from '../index.js'
import { awaitMessages, isFault, mustRegister, pageOf, untilPending } from '../serve.js'

const pageBytes = 4096
const SIGUSR1 = 10

function signal(thread: LabThread): void {
  must(syscall('tgkill', process.pid, thread.threadId, SIGUSR1), 'tgkill')
}

export const closeWakes = experiment({
  id: 'close-wakes',
  tags: ['faults', 'close'],
  question: 'What happens to threads that wait for pages when the last descriptor is closed?',
  method: 'Two threads read two missing pages; one message is read, one is not; close.',
  expected: {
    values: { 'states before': ['S', 'S'], 'read message: value': 0, 'unread message: value': 0 },
    source: 'userfaultfd(2); kernel-behaviour 4.2: silent zero pages',
  },
  async run(lab) {
    const uffd = lab.open()
    const memory = lab.map('anon', { pages: 2 })
    mustRegister(uffd, memory)
    const first = lab.thread(step.load(memory.page(0)))
    await untilPending(uffd)
    uffd.read()
    const second = lab.thread(step.load(memory.page(1)))
    await untilPending(uffd)
    const states = [first.state, second.state]
    uffd.close()
    const [read] = await first.done()
    const [unread] = await second.done()
    return {
      'states before': states,
      'read message: value': read?.value ?? -1,
      'unread message: value': unread?.value ?? -1,
    }
  },
})

export const munmapWaiter = experiment({
  id: 'munmap-waiter',
  tags: ['faults', 'unmap'],
  question: 'Does munmap of its memory wake a thread that waits for a page?',
  method: 'A thread reads a missing page; munmap; then UFFDIO_WAKE of the old range.',
  expected: {
    values: { 'state after munmap': 'S', 'after WAKE': ['ok', 'SIGSEGV'] },
    source: 'kernel-behaviour 4.2: stranded until a WAKE of the old range',
  },
  async run(lab) {
    const uffd = lab.open()
    const memory = lab.map('anon', { pages: 1 })
    mustRegister(uffd, memory)
    const thread = lab.thread(step.load(memory.address))
    await awaitMessages(uffd, 1)
    must(syscall('munmap', memory.address, pageBytes), 'munmap')
    const state = (await thread.parks()) ? thread.state : 'continued'
    const wake = uffd.wake(memory.address, pageBytes)
    const [load] = await thread.done()
    return { 'state after munmap': state, 'after WAKE': [wake, load?.outcome ?? ''] }
  },
})

export const signalRefault = experiment({
  id: 'signal-refault',
  tags: ['faults', 'signals'],
  question: 'What does a signal do to a thread that waits for a page of its own access?',
  method: 'SIGUSR1, which has a handler, to a thread that reads a missing page.',
  expected: {
    values: { 'handler ran': 1, messages: 2, 'of one address': true, value: 9 },
    source: 'kernel-behaviour 4.2: the fault restarts, with a second message',
  },
  async run(lab) {
    const uffd = lab.open()
    const memory = lab.map('anon', { pages: 1 })
    mustRegister(uffd, memory)
    const thread = lab.thread(step.load(memory.address), { takeSignals: true })
    const first = await awaitMessages(uffd, 1)
    signal(thread)
    const messages = [...first, ...(await awaitMessages(uffd, 1))]
    await thread.parks()
    messages.push(...uffd.read())
    const addresses = new Set(messages.filter(isFault).map(({ address }) => address))
    uffd.copy(memory.address, pageOf(9), pageBytes)
    const [load] = await thread.done()
    return {
      'handler ran': userSignalCount(),
      messages: messages.length,
      'of one address': addresses.size === 1,
      value: load?.value ?? -1,
    }
  },
})

const windows = 3
const windowMs = 100

export const signalSpin = experiment({
  id: 'signal-spin',
  tags: ['faults', 'signals', 'kernel-faults'],
  question: 'What does a signal do to a thread whose system call waits for a page?',
  method:
    'SIGUSR1 to a thread in read(2) into a missing page; for 300 ms its time on a CPU and ' +
    'the messages are counted (best of three windows); then the page is placed.',
  needs: { kernelFaults: true, cpus: 2 },
  expected: {
    values: {
      'handler ran while the page was missing': 0,
      'share of time on a CPU or ready for one': atLeast(0.8),
      'messages a second': atLeast(20_000),
      'read(2)': 4096,
      'handler ran after that': 1,
    },
    source: 'kernel-behaviour 4.2: the thread spins until the page is there',
  },
  async run(lab) {
    const uffd = lab.open()
    const memory = lab.map('anon', { pages: 1 })
    mustRegister(uffd, memory)
    const zero = openSync('/dev/zero', 'r')
    // Each thread has a processor of its own: on one, each message would cost two context
    // switches.
    must(syscall('sched_setaffinity', 0, 8, BigUint64Array.of(1n)), 'sched_setaffinity')
    const thread = lab.thread(step.syscall('read', zero, memory.address, pageBytes), {
      takeSignals: true,
      cpu: 1,
    })
    await awaitMessages(uffd, 1)
    signal(thread)
    const counted = Array.from({ length: windows }, () => countMessages(uffd, thread))
    const during = userSignalCount()
    uffd.copy(memory.address, pageOf(9), pageBytes)
    const [read] = await thread.done()
    return {
      'handler ran while the page was missing': during,
      'share of time on a CPU or ready for one': Math.max(...counted.map(({ share }) => share)),
      'messages a second': Math.round(Math.max(...counted.map(({ rate }) => rate))),
      'read(2)': read?.value ?? -1,
      'handler ran after that': userSignalCount(),
    }

    /**
     * Time that the thread ran or waited for a CPU, so that other load does not look like sleep.
     */
    function busyNs(): number {
      const text = lab.readFile(`/proc/self/task/${thread.threadId}/schedstat`)
      const [ran, waited] = (text ?? '').split(' ').map(Number)
      return (ran ?? Number.NaN) + (waited ?? Number.NaN)
    }

    /** A fault posted again replaces its message, so only a busy reader can count the messages. */
    function countMessages(from: RawUserfaultfd, spinning: LabThread) {
      const buffer = new Uint8Array(32)
      const before = busyNs()
      const start = performance.now()
      let messages = 0
      let now = start
      while (now - start < windowMs && !spinning.finished) {
        for (let turn = 0; turn < 100; turn += 1) {
          if (syscall('read', from.fd, buffer, 32) === 32) messages += 1
        }
        now = performance.now()
      }
      const seconds = (now - start) / 1000
      return { rate: messages / seconds, share: (busyNs() - before) / 1e9 / seconds }
    }
  },
})

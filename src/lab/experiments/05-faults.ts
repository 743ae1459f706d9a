/** Fault messages; which threads a fill wakes, and when. Rows 16 to 19. */
import { Fill, Ioctl, Madv, Mode, between, experiment, median, poke, step } from '../index.js'
import type { Lab, Message } from '../index.js'

const pageBytes = 4096

function faultsIn(messages: readonly Message[]): Extract<Message, { event: 'PAGEFAULT' }>[] {
  return messages.flatMap((each) => (each.event === 'PAGEFAULT' ? [each] : []))
}

export const nThreadsOnePage = experiment({
  id: 'n-threads-one-page',
  tags: ['faults', 'threads'],
  question: 'How many messages do several threads on one missing page cause, and what wakes them?',
  method: 'Four threads read one page; the messages are read; one UFFDIO_COPY.',
  needs: { features: ['THREAD_ID'] },
  expected: {
    values: {
      messages: 4,
      'their thread ids are right': true,
      asleep: 4,
      'awake after one copy': 4,
    },
    source: 'userfaultfd(2); kernel-behaviour 4.1',
  },
  async run(lab) {
    const uffd = lab.open('THREAD_ID')
    const memory = lab.map('anon', { pages: 1 })
    uffd.register(memory.address, memory.lengthBytes, Mode.MISSING)
    const threads = [1, 2, 3, 4].map(() => lab.thread(step.load(memory.address)))
    const parked = await Promise.all(threads.map((thread) => thread.parks()))
    const faults = faultsIn(uffd.read())
    uffd.copy(memory.address, new Uint8Array(pageBytes).fill(1), pageBytes)
    await Promise.all(threads.map((thread) => thread.done()))
    const ids = new Set(faults.map(({ threadId }) => threadId))
    return {
      messages: faults.length,
      'their thread ids are right': threads.every(({ threadId }) => ids.has(threadId)),
      asleep: parked.filter(Boolean).length,
      'awake after one copy': threads.filter(({ finished }) => finished).length,
    }
  },
})

/** Nanoseconds per page to fill 16 MiB: the median of several rounds, each on fresh pages. */
async function fillCost(lab: Lab, mode: number, wakeRunPages: number): Promise<number> {
  const pages = 4096
  const uffd = lab.open()
  const rounds: number[] = []
  for (let round = 0; round < 5; round += 1) {
    const memory = lab.map('anon', { pages })
    uffd.register(memory.address, memory.lengthBytes, Mode.MISSING)
    const call = (request: number, runPages: number) =>
      step.fill(uffd.fd, request, memory.address, 0, runPages * pageBytes, memory.lengthBytes, mode)
    const steps = [call(Ioctl.ZEROPAGE, 1)]
    if (wakeRunPages > 0) steps.push(call(Ioctl.WAKE, wakeRunPages))
    const results = await lab.thread(steps).done()
    rounds.push(results.reduce((sum, { nanoseconds }) => sum + nanoseconds, 0) / pages)
    memory.madvise(Madv.DONTNEED)
  }
  return Math.round(median(rounds))
}

export const dontwakeBatch = experiment({
  id: 'dontwake-batch',
  tags: ['faults', 'fill', 'cost'],
  question: 'Does DONTWAKE leave the threads asleep, and what does waking once for 16 pages save?',
  method:
    'Copies with DONTWAKE below a parked thread, then wakes. Then 4096 pages of UFFDIO_ZEROPAGE, one ' +
    'call a page: waking each, and DONTWAKE with one UFFDIO_WAKE for 16. Median of 5 rounds.',
  expected: {
    values: {
      'asleep after the copy': true,
      'message still readable': 1,
      'awake after WAKE': true,
      'ns a page, waking each': between(50, 20_000),
      'ns a page, waking 16 at once': between(50, 20_000),
    },
    source: 'ioctl_userfaultfd(2), UFFDIO_COPY_MODE_DONTWAKE; kernel-behaviour 4.1, 6.2',
  },
  async run(lab) {
    const uffd = lab.open()
    const memory = lab.map('anon', { pages: 16 })
    uffd.register(memory.address, memory.lengthBytes, Mode.MISSING)
    const thread = lab.thread(step.load(memory.page(3)))
    await thread.parks()
    uffd.copy(memory.address, new Uint8Array(16 * pageBytes), 16 * pageBytes, Fill.DONTWAKE)
    const asleep = await thread.parks()
    const messages = uffd.read().length
    uffd.wake(memory.address, memory.lengthBytes)
    await thread.done()
    const each = await fillCost(lab, 0, 0)
    const batch = await fillCost(lab, Fill.DONTWAKE, 16)
    lab.plot({
      kind: 'bars',
      title: 'Waking, one UFFDIO_ZEROPAGE a page',
      yLabel: 'ns a page',
      bars: [
        { name: 'wakes with each page', value: each },
        { name: 'wakes 16 pages at once', value: batch },
      ],
    })
    return {
      'asleep after the copy': asleep,
      'message still readable': messages,
      'awake after WAKE': thread.finished,
      'ns a page, waking each': each,
      'ns a page, waking 16 at once': batch,
    }
  },
})

export const wakeWithoutFill = experiment({
  id: 'wake-without-fill',
  tags: ['faults'],
  question: 'What does a thread do if it is woken while its page is still missing?',
  method: 'UFFDIO_WAKE three times below a parked thread, reading the messages in between.',
  expected: {
    values: { messages: [1, 1, 1, 1], 'still asleep': true },
    source: 'kernel-behaviour 4.1: it faults again, with a new message each time',
  },
  async run(lab) {
    const uffd = lab.open()
    const memory = lab.map('anon', { pages: 1 })
    uffd.register(memory.address, memory.lengthBytes, Mode.MISSING)
    const thread = lab.thread(step.load(memory.address))
    await thread.parks()
    const messages = [uffd.read().length]
    for (let round = 0; round < 3; round += 1) {
      uffd.wake(memory.address, pageBytes)
      await thread.parks(20)
      messages.push(uffd.read().length)
    }
    return { messages, 'still asleep': await thread.parks() }
  },
})

/** The address in the message of a fault inside a page, minus the address of that page. */
async function lowBits(lab: Lab, kind: 'anon' | 'hugetlb', exact: boolean): Promise<number> {
  const uffd = exact ? lab.open('EXACT_ADDRESS') : lab.open()
  const memory = lab.map(kind, { pages: 1 })
  uffd.register(memory.address, memory.lengthBytes, Mode.MISSING)
  await lab.thread(step.load(memory.address + 0x123)).parks()
  return (faultsIn(uffd.read())[0]?.address ?? 0) - memory.address
}

export const exactAddress = experiment({
  id: 'exact-address',
  tags: ['faults', 'features'],
  question: 'Is the address of a fault exact or that of its page?',
  method: 'Touches byte 0x123 of a page of 4 KiB, without and with EXACT_ADDRESS.',
  needs: { features: ['EXACT_ADDRESS'] },
  expected: {
    values: { without: 0, 'with EXACT_ADDRESS': 0x123 },
    source: 'userfaultfd(2): EXACT_ADDRESS since 5.18; kernel-behaviour 4.1',
  },
  async run(lab) {
    return {
      without: await lowBits(lab, 'anon', false),
      'with EXACT_ADDRESS': await lowBits(lab, 'anon', true),
    }
  },
})

export const exactAddressHugetlb = experiment({
  ...exactAddress,
  id: 'exact-address-hugetlb',
  method: 'Touches byte 0x123 of a page of 2 MiB, without and with EXACT_ADDRESS.',
  needs: { features: ['EXACT_ADDRESS', 'MISSING_HUGETLBFS'], hugePages: 2 },
  async run(lab) {
    return {
      without: await lowBits(lab, 'hugetlb', false),
      'with EXACT_ADDRESS': await lowBits(lab, 'hugetlb', true),
    }
  },
})

export const faultFlags = experiment({
  id: 'fault-flags',
  tags: ['faults', 'write-protect', 'minor'],
  question: 'Which flags does each kind of fault have (1 WRITE, 2 WP, 4 MINOR)?',
  method: 'A thread for each access; the flags of its message.',
  needs: { features: ['PAGEFAULT_FLAG_WP', 'MINOR_SHMEM'] },
  expected: {
    values: {
      'read of a missing page': [0],
      'write to a missing page': [1],
      'write to a protected page': [3],
      'read, page in the file': [4],
      'write, page in the file': [5],
      'read, page not in the file': [0],
      'MISSING only, page in the file': [],
      'MINOR only, page not in the file': [],
    },
    source: 'userfaultfd(2); kernel-behaviour 4.1',
  },
  async run(lab) {
    const flagsOf = async (
      kind: 'anon' | 'shmem',
      mode: number,
      write: boolean,
      prepare: (memory: ReturnType<Lab['map']>) => void = () => undefined,
    ) => {
      const uffd = lab.open()
      const memory = lab.map(kind, { pages: 1, alias: kind === 'shmem' })
      prepare(memory)
      uffd.register(memory.address, memory.lengthBytes, mode)
      if (mode === Mode.WP) uffd.writeProtect(memory.address, pageBytes, 1)
      await lab.thread(write ? step.store(memory.address, 1) : step.load(memory.address)).parks()
      return faultsIn(uffd.read()).map(({ flags }) => flags)
    }
    const inFile = (memory: ReturnType<Lab['map']>) => poke(memory.alias, Uint8Array.of(1))
    const both = Mode.MISSING + Mode.MINOR
    return {
      'read of a missing page': await flagsOf('anon', Mode.MISSING, false),
      'write to a missing page': await flagsOf('anon', Mode.MISSING, true),
      'write to a protected page': await flagsOf('anon', Mode.WP, true, (memory) =>
        memory.set(0, 1),
      ),
      'read, page in the file': await flagsOf('shmem', both, false, inFile),
      'write, page in the file': await flagsOf('shmem', both, true, inFile),
      'read, page not in the file': await flagsOf('shmem', both, false),
      'MISSING only, page in the file': await flagsOf('shmem', Mode.MISSING, false, inFile),
      'MINOR only, page not in the file': await flagsOf('shmem', Mode.MINOR, false),
    }
  },
})

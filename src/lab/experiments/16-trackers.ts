/** Ways to detect the first write to a page, and their cost. Row 45, and a related one. */
import {
  Mode,
  anything,
  atLeast,
  between,
  experiment,
  median,
  must,
  step,
  syscall,
} from '../index.js'
import type { Lab, LabMemory, RawUserfaultfd, ThreadOptions } from '../index.js'
import { PAGEMAP_SCAN, ScanFlag, openPageMap, scanArguments } from '../page-table.js'
import { mustRegister } from '../serve.js'

const pageBytes = 4096
const pages = 4096

async function firstWrites(lab: Lab, memory: LabMemory, options: ThreadOptions = {}) {
  // 1003 is coprime to the count, so that neighbouring pages are not written in sequence.
  const sweep = { strideBytes: pageBytes, count: pages, write: true, order: 1003 }
  const thread = lab.thread(step.sweep(memory.address, sweep), { cpu: 0, ...options })
  await thread.done(8000)
  return { samples: thread.samples, handled: thread.handledFaults }
}

/** 16 MiB with all pages present. */
function populated(lab: Lab): LabMemory {
  const memory = lab.map('anon', { pages })
  for (let page = 0; page < pages; page += 1) memory.set(page, 1)
  return memory
}

function arm(uffd: RawUserfaultfd, memory: LabMemory): void {
  mustRegister(uffd, memory, Mode.WP)
  uffd.writeProtect(memory.address, memory.lengthBytes, 1)
}

export const trackCompare = experiment({
  id: 'track-compare',
  tags: ['write-protect', 'cost', 'latency'],
  question: 'What does the first write to a tracked page cost, by method of tracking?',
  method:
    `${pages} pages are written once, scattered: write-protected asynchronously, with messages to a ` +
    'native thread, and by mprotect with a handler of SIGSEGV; and untracked, for comparison.',
  needs: { features: ['WP_ASYNC'], cpus: 2 },
  expected: {
    values: {
      'asynchronous against untracked': atLeast(2),
      'messages against asynchronous': atLeast(5),
      'SIGSEGV against asynchronous': between(2, 30),
      'every page was handled': true,
      'p50 ns, asynchronous': anything('about 780'),
      'p50 ns, messages': anything('about 49000'),
      'p50 ns, SIGSEGV': anything('about 5700 to 7100'),
    },
    source: 'kernel-behaviour 5.3: about 1 : 60 : 7',
  },
  async run(lab) {
    const untracked = await firstWrites(lab, populated(lab))
    const quiet = populated(lab)
    arm(lab.open('PAGEFAULT_FLAG_WP', 'WP_ASYNC'), quiet)
    const asynchronous = await firstWrites(lab, quiet)

    const told = populated(lab)
    const uffd = lab.openWith({ features: ['PAGEFAULT_FLAG_WP'], nonblock: false })
    arm(uffd, told)
    const responder = lab.responder(uffd.fd, { waiting: 'blocking', cpu: 1 })
    const messages = await firstWrites(lab, told)

    const guarded = populated(lab)
    must(syscall('mprotect', guarded.address, guarded.lengthBytes, 1), 'mprotect')
    const signals = await firstWrites(lab, guarded, { onFault: 'unprotect' })
    const [plain, first, second, third] = lab.distributions('First write to a tracked page', {
      untracked: untracked.samples,
      'asynchronous write-protection': asynchronous.samples,
      'mprotect and SIGSEGV': signals.samples,
      'write-protection with messages': messages.samples,
    })
    const p50 = (of: typeof plain) => of?.p50 ?? Number.NaN
    return {
      'asynchronous against untracked': p50(first) / p50(plain),
      'messages against asynchronous': p50(third) / p50(first),
      'SIGSEGV against asynchronous': p50(second) / p50(first),
      'every page was handled': responder.info.messages === pages && signals.handled === pages,
      'p50 ns, asynchronous': p50(first),
      'p50 ns, messages': p50(third),
      'p50 ns, SIGSEGV': p50(second),
    }
  },
})

const rounds = 7
const spinning = 2_000_000

/**
 * ns per page of a scan that arms every page again, with or without a thread on another processor.
 */
async function rearmCost(lab: Lab, memory: LabMemory, map: number, beside: boolean) {
  const { address: start, lengthBytes } = memory
  const flags = ScanFlag.WP_MATCHING + ScanFlag.CHECK_WPASYNC
  const scan = lab.keep(scanArguments({ start, end: start + lengthBytes, flags, ranges: 8 }))
  const idle = lab.map('anon', { pages: 1 })
  idle.set(0, 1)
  const costs: number[] = []
  for (let round = 0; round < rounds; round += 1) {
    const spin = step.sweep(idle.address, { strideBytes: 0, count: spinning, sample: false })
    const other = beside ? lab.thread(spin, { cpu: 1 }) : undefined
    const write = { strideBytes: pageBytes, count: pages, write: true, sample: false }
    const steps = [step.sweep(start, write), step.syscall('ioctl', map, PAGEMAP_SCAN, scan.request)]
    const [, scanned] = await lab.thread(steps, { cpu: 0 }).done()
    must(scanned?.value ?? -1, 'PAGEMAP_SCAN')
    costs.push((scanned?.nanoseconds ?? 0) / pages)
    await other?.done()
  }
  return median(costs)
}

export const rearmBesideThreads = experiment({
  id: 'rearm-beside-threads',
  tags: ['pagemap', 'write-protect', 'cost', 'threads'],
  question: 'What does it cost to arm pages again while another thread of the process runs?',
  method:
    `PAGEMAP_SCAN arms ${pages} written pages again; alone, and with a thread of this process that ` +
    `runs on another processor, as virtual CPUs do. Median of ${rounds} rounds.`,
  needs: { features: ['WP_ASYNC'], cpus: 2 },
  expected: {
    values: {
      'beside a thread against alone': atLeast(1.3),
      'ns a page, alone': anything('about 12'),
      'ns a page, beside a thread': anything('about 40'),
    },
    source:
      'measured on 6.18; the likely cause is the TLB flush, which interrupts the other processor; ' +
      'kernel-behaviour 5.3 has 44 ns',
  },
  async run(lab) {
    const memory = populated(lab)
    arm(lab.open('PAGEFAULT_FLAG_WP', 'WP_ASYNC'), memory)
    const map = openPageMap()
    const alone = await rearmCost(lab, memory, map, false)
    const beside = await rearmCost(lab, memory, map, true)
    return {
      'beside a thread against alone': beside / alone,
      'ns a page, alone': alone,
      'ns a page, beside a thread': beside,
    }
  },
})

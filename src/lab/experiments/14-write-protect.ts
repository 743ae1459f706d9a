/** What preserves and what clears a write-protect bit. Rows 39 to 42. */
import { setTimeout as sleep } from 'node:timers/promises'
import { Madv, Mode, experiment, must, poke, step, syscall } from '../index.js'
import type { Lab, LabMemory, RawUserfaultfd } from '../index.js'
import {
  ScanFlag,
  openPageMap,
  pageBits,
  pagesFound,
  scanArguments,
  scanPages,
} from '../page-table.js'
import { isFault, mustRegister, pageOf, serveUntilDone } from '../serve.js'
import { swapOn } from '../swap.js'

const pageBytes = 4096

/** Fills pages with one byte and write-protects all of them. */
function armed(uffd: RawUserfaultfd, memory: LabMemory, value = 5): void {
  for (let page = 0; page < memory.lengthBytes / pageBytes; page += 1) {
    poke(memory.page(page), pageOf(value))
  }
  mustRegister(uffd, memory, Mode.WP)
  const outcome = uffd.writeProtect(memory.address, memory.lengthBytes, 1)
  must(outcome === 'ok' ? 0 : -22, `UFFDIO_WRITEPROTECT: ${outcome}`)
}

/**
 * Flags of the message that a write causes, or -1 without a message. The thread then continues.
 */
async function writeFlags(lab: Lab, uffd: RawUserfaultfd, address: number): Promise<number> {
  const thread = lab.thread(step.store(address, 77))
  const messages = await serveUntilDone(uffd, thread, () => {
    uffd.writeProtect(address, pageBytes, 0)
  })
  return messages.find(isFault)?.flags ?? -1
}

export const swapWp = experiment({
  id: 'swap-wp',
  tags: ['write-protect', 'swap', 'pressure'],
  question: 'Is a write-protect bit kept when its page is swapped out and in?',
  method: 'A swap file of its own; MADV_PAGEOUT of armed pages; a read, then a write.',
  needs: { root: true, features: ['PAGEFAULT_FLAG_WP'], files: ['/proc/swaps'] },
  expected: {
    values: {
      'bit before': 1,
      'bit of the swapped page': 1,
      'read: value and messages': [5, 0],
      'bit after the read': 1,
      'write: flags': 3,
    },
    source: 'kernel-behaviour 4.1',
  },
  async run(lab) {
    swapOn(lab)
    const uffd = lab.open('PAGEFAULT_FLAG_WP')
    const memory = lab.map('anon')
    armed(uffd, memory)
    const bit = () => pageBits('writeProtected', memory.address, 1)[0] ?? -1
    const before = bit()
    await swapOut(lab, memory)
    const swapped = bit()
    const [load] = await lab.thread(step.load(memory.address)).done()
    return {
      'bit before': before,
      'bit of the swapped page': swapped,
      'read: value and messages': [load?.value ?? -1, uffd.read().length],
      'bit after the read': bit(),
      'write: flags': await writeFlags(lab, uffd, memory.address),
    }
  },
})

async function swapOut(lab: Lab, memory: LabMemory): Promise<void> {
  for (let attempt = 0; attempt < 20; attempt += 1) {
    must(syscall('madvise', memory.address, memory.lengthBytes, Madv.PAGEOUT), 'MADV_PAGEOUT')
    if (pageBits('swapped', memory.address, 1)[0] === 1) return
    await sleep(10)
  }
  lab.notPossible('MADV_PAGEOUT swapped nothing out')
}

const ksm = (name: string) => `/sys/kernel/mm/ksm/${name}`

export const ksmLosesWp = experiment({
  id: 'ksm-loses-wp',
  tags: ['write-protect', 'ksm', 'madvise'],
  question: 'Does a page stay write-protected when KSM merges it?',
  method: 'Arms four equal pages, lets KSM merge them, and writes to one whose bit is gone.',
  needs: { root: true, features: ['PAGEFAULT_FLAG_WP'], files: [ksm('run')] },
  changes: [ksm('run'), ksm('pages_to_scan'), ksm('sleep_millisecs')],
  expected: {
    values: { 'armed before': 4, 'some bits are gone': true, 'write without its bit: flags': -1 },
    source: 'kernel-behaviour 4.4: tracking lost, without a message',
  },
  async run(lab) {
    const uffd = lab.open('PAGEFAULT_FLAG_WP')
    const memory = lab.map('anon')
    armed(uffd, memory)
    const bits = () => pageBits('writeProtected', memory.address, 4)
    const before = bits()
    must(syscall('madvise', memory.address, memory.lengthBytes, Madv.MERGEABLE), 'MADV_MERGEABLE')
    lab.set(ksm('pages_to_scan'), 10_000)
    lab.set(ksm('sleep_millisecs'), 1)
    lab.set(ksm('run'), 1)
    const merging = () => Number(lab.readFile('/proc/self/ksm_merging_pages') ?? 0)
    for (let waited = 0; merging() < 3 && waited < 3000; waited += 10) await sleep(10)
    if (merging() < 3) lab.notPossible('KSM merged nothing within 3 s')
    const after = bits()
    lab.note(`bits after the merge: ${after.join(' ')}`)
    const open = after.indexOf(0)
    return {
      'armed before': before.filter((bit) => bit === 1).length,
      'some bits are gone': open >= 0,
      'write without its bit: flags':
        open < 0 ? 'every page kept its bit' : await writeFlags(lab, uffd, memory.page(open)),
    }
  },
})

export const wpUnpopulated = experiment({
  id: 'wp-unpopulated',
  tags: ['write-protect', 'features'],
  question: 'Can anonymous pages that were never touched be write-protected?',
  method: 'Arms an untouched page with and without the feature, and writes to it.',
  needs: { features: ['PAGEFAULT_FLAG_WP'] },
  expected: {
    values: { 'without: flags': -1, 'with: bit': 1, 'with: flags': 3 },
    source: 'ioctl_userfaultfd(2), UFFD_FEATURE_WP_UNPOPULATED (6.4)',
  },
  async run(lab) {
    const write = async (uffd: RawUserfaultfd) => {
      const memory = lab.map('anon', { pages: 1 })
      mustRegister(uffd, memory, Mode.WP)
      uffd.writeProtect(memory.address, pageBytes, 1)
      const bit = pageBits('writeProtected', memory.address, 1)[0] ?? -1
      return { bit, flags: await writeFlags(lab, uffd, memory.address) }
    }
    const without = await write(lab.open('PAGEFAULT_FLAG_WP'))
    if (!lab.has({ features: ['WP_UNPOPULATED'] })) {
      const why = 'needs UFFD_FEATURE_WP_UNPOPULATED (Linux 6.4)'
      lab.unavailable('with: bit', why)
      lab.unavailable('with: flags', why)
      return { 'without: flags': without.flags }
    }
    const { bit, flags } = await write(lab.open('PAGEFAULT_FLAG_WP', 'WP_UNPOPULATED'))
    return { 'without: flags': without.flags, 'with: bit': bit, 'with: flags': flags }
  },
})

export const aliasBypass = experiment({
  id: 'alias-bypass',
  tags: ['write-protect', 'pagemap'],
  question: 'Does write-protection detect a write through another mapping, or by pwrite?',
  method:
    'Arms one mapping of a memfd, writes to page 0 through a second one and to page 1 by pwrite(2); ' +
    'once with messages, once asynchronous with PAGEMAP_SCAN.',
  needs: { features: ['WP_HUGETLBFS_SHMEM'] },
  expected: {
    values: {
      'values seen in the armed mapping': [8, 9],
      messages: 0,
      'bits afterwards': [1, 1],
      'WRITTEN, asynchronous': 0,
      'WRITTEN after a write by itself': 1,
    },
    source: 'kernel-behaviour 4.4',
  },
  run(lab) {
    const bypass = (uffd: RawUserfaultfd) => {
      const memory = lab.map('shmem', { pages: 2, alias: true })
      armed(uffd, memory)
      poke(memory.alias, Uint8Array.of(8))
      must(syscall('pwrite64', memory.fd, Uint8Array.of(9), 1, pageBytes), 'pwrite')
      return memory
    }
    const sync = lab.open('PAGEFAULT_FLAG_WP', 'WP_HUGETLBFS_SHMEM')
    const watched = bypass(sync)
    const seen = {
      'values seen in the armed mapping': [watched.byte(0), watched.byte(1)],
      messages: sync.read().length,
      'bits afterwards': pageBits('writeProtected', watched.address, 2),
    }
    const counts = { hidden: 'WRITTEN, asynchronous', own: 'WRITTEN after a write by itself' }
    if (!lab.has({ features: ['WP_ASYNC'] })) {
      for (const name of Object.values(counts)) {
        lab.unavailable(name, 'needs UFFD_FEATURE_WP_ASYNC (Linux 6.7)')
      }
      return seen
    }
    const memory = bypass(lab.open('PAGEFAULT_FLAG_WP', 'WP_HUGETLBFS_SHMEM', 'WP_ASYNC'))
    const map = openPageMap()
    const written = () => {
      const { address: start, lengthBytes } = memory
      const flags = ScanFlag.CHECK_WPASYNC
      const scan = scanArguments({ start, end: start + lengthBytes, flags, ranges: 2 })
      return pagesFound(scan, must(scanPages(map, scan).count, 'PAGEMAP_SCAN'))
    }
    const hidden = written()
    memory.set(0, 1)
    return { ...seen, [counts.hidden]: hidden, [counts.own]: written() }
  },
})

/** The kernel's programs besides its unit tests: uffd-stress and uffd-wp-mremap. */
import { setTimeout as sleep } from 'node:timers/promises'
import { Madv, Mode, atLeast, must, peek, poke, step } from '../index.js'
import type { Lab, LabMemory } from '../index.js'
import { pageBits } from '../page-table.js'
import { selftest } from '../selftest.js'
import type { SelftestKind } from '../selftest.js'
import { mustRegister, pageOf } from '../serve.js'
import { swapOn } from '../swap.js'

const rounds = 4
const content = 7
/** The order of each thread's walk; odd, and so coprime to the number of pages. */
const orders = [1, 3, 101, 255]

/** Counts the pages where the byte of a thread, or a placed byte, has another value. */
function wrongPages(memory: LabMemory, pages: number): number {
  const expected = Array.from({ length: pages }, () => new Uint8Array(16).fill(content))
  for (const [thread, order] of orders.entries()) {
    for (let turn = 0; turn < pages; turn += 1) {
      const bytes = expected[(turn * order) % pages]
      if (bytes !== undefined) bytes[thread] = turn + 1
    }
  }
  return expected.filter((bytes, page) => Buffer.compare(bytes, peek(memory.page(page), 16)) !== 0)
    .length
}

function discard(memory: LabMemory): void {
  const isPrivate = memory.kind === 'anon' || memory.kind.endsWith('-private')
  const outcome = memory.madvise(isPrivate ? Madv.DONTNEED : Madv.REMOVE)
  must(outcome === 'ok' ? 0 : -22, `discard: ${outcome}`)
}

export const stress = selftest({
  name: 'stress',
  program: 'uffd-stress',
  question: 'Is a write lost, or a page torn, when threads race for missing pages?',
  method:
    `${orders.length} threads write a byte of their own to every page, each in another order, while a ` +
    `native thread places them; checked and discarded, ${rounds} times.`,
  hugePages: 8,
  expected: (kind) => ({
    values: {
      'wrong pages': 0,
      'messages for a page': atLeast(1),
      pages: kind.startsWith('hugetlb') ? 4 * rounds : 256 * rounds,
    },
  }),
  async run(lab, kind) {
    const pages = kind.startsWith('hugetlb') ? 4 : 256
    const uffd = lab.open()
    const memory = lab.map(kind, { pages })
    const { pageBytes } = memory
    mustRegister(uffd, memory)
    const source = lab.keep(pageOf(content, pageBytes))
    const responder = lab.responder(uffd.fd, { waiting: 'poll', batch: 16, pageBytes, source })
    let wrong = 0
    for (let round = 0; round < rounds; round += 1) {
      const threads = orders.map((order, index) => {
        const walk = { strideBytes: pageBytes, count: pages, write: true, order, sample: false }
        return lab.thread(step.sweep(memory.address + index, walk))
      })
      await Promise.all(threads.map((thread) => thread.done()))
      wrong += wrongPages(memory, pages)
      discard(memory)
    }
    const { messages } = responder.info
    responder.stop()
    return {
      'wrong pages': wrong,
      'messages for a page': messages / (pages * rounds),
      pages: pages * rounds,
    }
  },
})

const mayMoveFixed = 3

interface Moved {
  pages: number
  alignBytes?: number
  /** Called after arming and before moving. */
  before?: (memory: LabMemory) => Promise<void>
}

/** Armed pages before and after a mremap. */
async function armedOverMremap(lab: Lab, kind: SelftestKind, withEvent: boolean, how: Moved) {
  const uffd = withEvent ? lab.open('PAGEFAULT_FLAG_WP', 'EVENT_REMAP') : lab.open()
  const { pages, alignBytes, before } = how
  const size = { pages, ...(alignBytes === undefined ? {} : { alignBytes }) }
  const [memory, target] = [lab.map(kind, size), lab.map(kind, size)]
  if (alignBytes !== undefined) memory.madvise(Madv.HUGEPAGE)
  for (let page = 0; page < pages; page += 1) poke(memory.page(page), Uint8Array.of(1))
  mustRegister(uffd, memory, Mode.WP)
  must(uffd.writeProtect(memory.address, memory.lengthBytes, 1) === 'ok' ? 0 : -22, 'arming')
  await before?.(memory)
  const { address, lengthBytes, pageBytes } = memory
  const armed = (start: number) => {
    const bits = pageBits('writeProtected', start, lengthBytes / 4096)
    return bits.filter((bit) => bit === 1).length / (pageBytes / 4096)
  }
  const was = armed(address)
  const call = [address, lengthBytes, lengthBytes, mayMoveFixed, target.address] as const
  const thread = lab.thread(step.syscall('mremap', ...call))
  while (!thread.finished) {
    uffd.read()
    await sleep(1)
  }
  must(thread.result(0).value, 'mremap')
  return [was, armed(target.address)]
}

async function swapOut(lab: Lab, { address, lengthBytes, madvise }: LabMemory): Promise<void> {
  for (let attempt = 0; attempt < 20; attempt += 1) {
    madvise(Madv.PAGEOUT)
    const bits = pageBits('swapped', address, lengthBytes / 4096)
    if (bits.every((bit) => bit === 1)) return
    await sleep(10)
  }
  lab.notPossible('MADV_PAGEOUT did not swap the pages out')
}

const withAndWithout = [true, false]
const nameOf = (withEvent: boolean) => (withEvent ? 'with EVENT_REMAP' : 'without')

export const wpMremap = selftest({
  name: 'wp-mremap',
  program: 'uffd-wp-mremap',
  question: 'Which write-protect bits remain after mremap, with and without EVENT_REMAP?',
  method:
    'Arms pages and moves them: small ones, huge ones, and swapped ones. Bits before and after.',
  writeProtect: true,
  // 2 pages and 2 to move them to, for two kinds, with the event and without it.
  hugePages: 16,
  needs: { features: ['EVENT_REMAP'] },
  expected: (kind) => ({
    // Earlier kernels, except their late stable releases, do not clear the bits.
    since: '6.13',
    values: {
      'with EVENT_REMAP': [2, 2],
      without: [2, 0],
      ...(kind === 'anon'
        ? {
            'huge page, with EVENT_REMAP': [512, 512],
            'huge page, without': [512, 0],
            'swapped, with EVENT_REMAP': [2, 2],
            'swapped, without': [2, 0],
          }
        : {}),
    },
  }),
  async run(lab, kind) {
    const seen: Record<string, number[]> = {}
    for (const withEvent of withAndWithout) {
      seen[nameOf(withEvent)] = await armedOverMremap(lab, kind, withEvent, { pages: 2 })
    }
    if (kind !== 'anon') return seen
    const hugeBytes = 2 ** 21
    for (const withEvent of withAndWithout) {
      const how = { pages: 512, alignBytes: hugeBytes }
      seen[`huge page, ${nameOf(withEvent)}`] = await armedOverMremap(lab, kind, withEvent, how)
    }
    if (lab.root) swapOn(lab)
    for (const withEvent of withAndWithout) {
      const name = `swapped, ${nameOf(withEvent)}`
      const how = { pages: 2, before: (memory: LabMemory) => swapOut(lab, memory) }
      if (lab.root) seen[name] = await armedOverMremap(lab, kind, withEvent, how)
      else lab.unavailable(`${kind}: ${name}`, 'needs root, for a swap file')
    }
    return seen
  },
})

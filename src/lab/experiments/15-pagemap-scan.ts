/** PAGEMAP_SCAN: the address it reports as its end, and its cost. Rows 43 and 44. */
import { Madv, Mode, anything, atMost, experiment, median, must, step, syscall } from '../index.js'
import type { Curve, Lab, LabMemory } from '../index.js'
import {
  PAGEMAP_SCAN,
  ScanFlag,
  openPageMap,
  pagesFound,
  scanArguments,
  scanPages,
} from '../page-table.js'
import { mustRegister } from '../serve.js'

const pageBytes = 4096

/** Arms the pages and returns the nanoseconds that the arming alone took. */
function arm(lab: Lab, memory: LabMemory): number {
  const uffd = lab.open('PAGEFAULT_FLAG_WP', 'WP_ASYNC')
  mustRegister(uffd, memory, Mode.WP)
  const begun = process.hrtime.bigint()
  uffd.writeProtect(memory.address, memory.lengthBytes, 1)
  return Number(process.hrtime.bigint() - begun)
}

export const pmscanWalkEnd = experiment({
  id: 'pmscan-walk-end',
  tags: ['pagemap', 'write-protect'],
  question: 'Can a scan be resumed from the walk_end that PAGEMAP_SCAN reports?',
  method:
    'Every second page of 8 MiB is dirty; a scan with room for 4096 ranges; then once more from ' +
    'walk_end, as a loop that relies on it would.',
  needs: { features: ['WP_ASYNC'] },
  expected: {
    values: {
      ranges: 1024,
      'walk_end, MiB': 4,
      'dirty pages that the loop reports': 1536,
      'errors: size, flag, category, start': ['EINVAL', 'EINVAL', 'EINVAL', 'EINVAL'],
    },
    source: 'kernel-behaviour 5.2: the kernel reports in batches of 512 ranges',
  },
  run(lab) {
    const memory = lab.map('anon', { pages: 2048 })
    arm(lab, memory)
    for (let page = 0; page < 2048; page += 2) memory.set(page, 1)
    const map = openPageMap()
    const start = memory.address
    const end = start + memory.lengthBytes
    const first = scanArguments({ start, end, ranges: 4096 })
    const { count, walkEnd } = scanPages(map, first)
    const again = scanArguments({ start: walkEnd, end, ranges: 4096 })
    const rest = walkEnd < end ? scanPages(map, again).count : 0
    const refused = (change: (request: BigUint64Array) => void) => {
      const scan = scanArguments({ start, end, ranges: 1 })
      change(scan.request)
      return scanPages(map, scan).count === -22 ? 'EINVAL' : 'other'
    }
    return {
      ranges: count,
      'walk_end, MiB': (walkEnd - start) / 2 ** 20,
      'dirty pages that the loop reports': pagesFound(first, count) + pagesFound(again, rest),
      'errors: size, flag, category, start': [
        refused((request) => (request[0] = 95n)),
        refused((request) => (request[1] = 4n)),
        refused((request) => (request[9] = 1n << 20n)),
        refused((request) => (request[2] = BigInt(start + 1))),
      ],
    }
  },
})

const pages = 16_384
const shares = [0, 1, 10, 50, 100]
const rounds = 7

/** ns per page of a scan that arms again what it reports, after writes to a share of the pages. */
async function scanCost(lab: Lab, memory: LabMemory, map: number, share: number): Promise<number> {
  const { address: start, lengthBytes } = memory
  const flags = ScanFlag.WP_MATCHING + ScanFlag.CHECK_WPASYNC
  const scan = lab.keep(
    scanArguments({ start, end: start + lengthBytes, flags, ranges: pages / 2 + 1 }),
  )
  const every = share === 0 ? pages : 100 / share
  const count = share === 0 ? 0 : Math.floor(pages / every)
  const dirty = step.sweep(start, {
    strideBytes: Math.floor(every) * pageBytes,
    count,
    write: true,
    sample: false,
  })
  const costs: number[] = []
  for (let round = 0; round < rounds; round += 1) {
    const thread = lab.thread([dirty, step.syscall('ioctl', map, PAGEMAP_SCAN, scan.request)])
    const [, scanned] = await thread.done()
    const found = pagesFound(scan, must(scanned?.value ?? -1, 'PAGEMAP_SCAN'))
    if (found !== count) throw new Error(`${found} pages were dirty instead of ${count}`)
    costs.push((scanned?.nanoseconds ?? 0) / pages)
  }
  return median(costs)
}

export const pmscanCost = experiment({
  id: 'pmscan-cost',
  tags: ['pagemap', 'write-protect', 'cost'],
  question: 'What does a scan cost that finds the dirty pages and arms them again?',
  method:
    '64 MiB, of which 0, 1, 10, 50 and 100 % were written; anonymous memory in small and in huge ' +
    `pages, and a memfd. Median of ${rounds} rounds, ns a page of the whole range.`,
  needs: { features: ['WP_ASYNC', 'WP_HUGETLBFS_SHMEM'], memoryMiB: 128 },
  deadlineMs: 60_000,
  expected: {
    values: {
      'nothing dirty against all dirty': atMost(0.3),
      '1 % dirty against all dirty': atMost(0.3),
      'anon, nothing dirty': anything('about 2'),
      'anon, 100 %': anything('about 12 alone, 44 with another running thread'),
      'shmem, nothing dirty': anything('about 1.6'),
      'shmem, 100 %': anything('about 12 alone, 42 with another running thread'),
      'arm by UFFDIO_WRITEPROTECT': anything('about 75'),
      'arm a huge page': anything('about 0.3'),
    },
    source: 'kernel-behaviour 5.3, measured on 1 GiB; cost follows ranges and armed pages',
  },
  async run(lab) {
    const map = openPageMap()
    const curves: Curve[] = []
    const armCosts: Record<string, number> = {}
    for (const name of ['anon', 'shmem', 'anon, huge pages']) {
      const memory = lab.map(name === 'shmem' ? 'shmem' : 'anon', { pages, alignBytes: 2 ** 21 })
      memory.madvise(name === 'anon, huge pages' ? Madv.HUGEPAGE : Madv.NOHUGEPAGE)
      must(syscall('madvise', memory.address, memory.lengthBytes, Madv.POPULATE_WRITE), 'populate')
      armCosts[name] = arm(lab, memory) / pages
      const y: number[] = []
      for (const share of shares) y.push(await scanCost(lab, memory, map, share))
      curves.push({ name, x: shares, y })
      must(syscall('munmap', memory.address, memory.lengthBytes), 'munmap')
    }
    lab.plot({
      kind: 'curves',
      title: 'PAGEMAP_SCAN that arms again, against the dirty share',
      xLabel: '% of pages written',
      yLabel: 'ns a page of the range',
      curves,
    })
    const [anon = [], shmem = []] = curves.map((curve) => curve.y)
    const all = anon.at(-1) ?? Number.NaN
    return {
      'nothing dirty against all dirty': (anon[0] ?? Number.NaN) / all,
      '1 % dirty against all dirty': (anon[1] ?? Number.NaN) / all,
      'anon, nothing dirty': anon[0] ?? -1,
      'anon, 100 %': all,
      'shmem, nothing dirty': shmem[0] ?? -1,
      'shmem, 100 %': shmem.at(-1) ?? -1,
      'arm by UFFDIO_WRITEPROTECT': armCosts['anon'] ?? -1,
      'arm a huge page': armCosts['anon, huge pages'] ?? -1,
    }
  },
})

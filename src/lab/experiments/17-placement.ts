/** Whether zero-copy placement pays. Rows 46 and 47. */
import {
  Ioctl,
  Fill,
  Madv,
  Mode,
  anything,
  atLeast,
  experiment,
  median,
  must,
  step,
  syscall,
} from '../index.js'
import type { Curve, Lab } from '../index.js'
import { PlacementCall, labNative } from '../../host/index.js'
import { mustRegister } from '../serve.js'

const pageBytes = 4096
const pages = 2048
const runs = [1, 16, 256]
const rounds = 7
const paths = ['buffer and COPY', 'cold alias and CONTINUE', 'warm alias and CONTINUE'] as const

/**
 * Faults in the kernel's free pages: a hypervisor may have taken them back. All paths start alike.
 */
function warmUp(lab: Lab): void {
  const { address, lengthBytes, fd } = lab.map('shmem', { pages: 2 * pages })
  must(syscall('madvise', address, lengthBytes, Madv.POPULATE_WRITE), 'MADV_POPULATE_WRITE')
  syscall('munmap', address, lengthBytes)
  syscall('close', fd)
}

/** ns per page of one path, on memory of its own that is released afterwards. */
function placeOnce(lab: Lab, path: (typeof paths)[number], runPages: number, bounce: number) {
  warmUp(lab)
  const uffd = lab.open()
  const memory = lab.map('shmem', { pages, alias: true })
  const { address, alias, lengthBytes } = memory
  mustRegister(uffd, memory, Mode.MISSING + Mode.MINOR)
  if (path === 'warm alias and CONTINUE') {
    must(syscall('madvise', alias, lengthBytes, Madv.POPULATE_WRITE), 'MADV_POPULATE_WRITE')
  }
  const into = path === 'buffer and COPY' ? 0 : alias
  const runBytes = runPages * pageBytes
  const call = new PlacementCall()
  call.dst = address
  call.alias = into
  call.bounce = bounce
  call.runBytes = runBytes
  call.totalBytes = lengthBytes
  const ns = labNative().receiveAndPlace(uffd.fd, call.numbers)
  must(ns, path)
  uffd.close()
  syscall('munmap', address, lengthBytes)
  syscall('munmap', alias, lengthBytes)
  syscall('close', memory.fd)
  return ns / pages
}

export const placeCopyVsContinue = experiment({
  id: 'place-copy-vs-continue',
  tags: ['fill', 'minor', 'cost', 'destination'],
  question: 'Is it cheaper to receive into a second mapping and CONTINUE than to COPY?',
  method:
    `8 MiB from a Unix socket into a memfd: through a buffer and COPY; into an alias that is cold, or ` +
    `was populated before, and CONTINUE. Runs of ${runs.join(', ')} pages, median of ${rounds} rounds, processor time of the receiver.`,
  needs: { features: ['MINOR_SHMEM'], minimumKernel: '5.14', memoryMiB: 128 },
  expected: {
    values: {
      'runs of 16: cold alias against COPY': atLeast(1.1),
      'runs of 16: COPY against warm alias': atLeast(1.2),
      'ns a page, COPY': anything('end to end about 2900, 1700'),
      'ns a page, cold alias': anything('end to end about 4500, 3200'),
      'ns a page, warm alias': anything('end to end about 1600, 790'),
    },
    source: 'kernel-behaviour 6.2: slower with a cold alias, faster with a warm one',
  },
  run(lab) {
    const bounce = lab.map('anon', { pages: 256 })
    must(syscall('madvise', bounce.address, bounce.lengthBytes, Madv.POPULATE_WRITE), 'populate')
    const costs = new Map<string, number[]>(
      paths.flatMap((path) => runs.map((run) => [`${path} ${run}`, []])),
    )
    for (let round = 0; round < rounds; round += 1) {
      for (const run of runs) {
        for (const path of paths) {
          costs.get(`${path} ${run}`)?.push(placeOnce(lab, path, run, bounce.address))
        }
      }
    }
    const cost = (path: (typeof paths)[number], run: number) =>
      median(costs.get(`${path} ${run}`) ?? [])
    const curves: Curve[] = paths.map((path) => {
      return { name: path, x: runs, y: runs.map((run) => cost(path, run)) }
    })
    lab.plot({
      kind: 'curves',
      title: 'From a socket to the placed page, by length of the run',
      xLabel: 'pages a run',
      yLabel: 'ns of the receiver a page',
      xLog: true,
      curves,
    })
    const [copy, cold, warm] = paths
    const rounded = (path: (typeof paths)[number]) => runs.map((run) => Math.round(cost(path, run)))
    return {
      'runs of 16: cold alias against COPY': cost(cold, 16) / cost(copy, 16),
      'runs of 16: COPY against warm alias': cost(copy, 16) / cost(warm, 16),
      'ns a page, COPY': rounded(copy),
      'ns a page, cold alias': rounded(cold),
      'ns a page, warm alias': rounded(warm),
    }
  },
})

const hugeBytes = 2 ** 21
const hugePages = 4

export const hugetlbPlace = experiment({
  id: 'hugetlb-place',
  tags: ['fill', 'minor', 'hugetlb', 'cost'],
  question: 'What does it cost to place a page of 2 MiB?',
  method: `UFFDIO_COPY, and CONTINUE of a page that an alias filled; median of 11 rounds of ${hugePages}.`,
  needs: { features: ['MINOR_HUGETLBFS'], hugePages, minimumKernel: '5.18' },
  expected: {
    values: {
      'COPY against CONTINUE': atLeast(20),
      'us, COPY': anything('about 73'),
      'us, CONTINUE': anything('about 0.6'),
      'us, memcpy into the alias': anything('about 62'),
    },
    source: 'kernel-behaviour 6.2',
  },
  async run(lab) {
    const uffd = lab.open()
    const memory = lab.map('hugetlb', { pages: hugePages, alias: true })
    const source = lab.map('anon', { pages: 512 })
    must(syscall('madvise', source.address, hugeBytes, Madv.POPULATE_WRITE), 'populate')
    mustRegister(uffd, memory, Mode.MISSING + Mode.MINOR)
    const { address, lengthBytes } = memory
    const total = (request: number) =>
      step.fill(uffd.fd, request, address, source.address, hugeBytes, lengthBytes, Fill.DONTWAKE)
    const steps = {
      copy: total(Ioctl.COPY),
      // Only the page table entries are dropped; the contents stay in the file.
      drop: step.syscall('madvise', address, lengthBytes, Madv.DONTNEED),
      continue: total(Ioctl.CONTINUE),
      memcpy: step.memcpy(memory.alias, source.address, hugeBytes),
      remove: step.syscall('madvise', address, lengthBytes, Madv.REMOVE),
    }
    const taken: Record<keyof typeof steps, number[]> = {
      copy: [],
      drop: [],
      continue: [],
      memcpy: [],
      remove: [],
    }
    for (let round = 0; round < 11; round += 1) {
      const results = await lab.thread(Object.values(steps)).done()
      for (const [index, name] of (Object.keys(steps) as (keyof typeof steps)[]).entries()) {
        must(results[index]?.value ?? -1, name)
        taken[name].push((results[index]?.nanoseconds ?? 0) / 1000)
      }
    }
    const copy = median(taken.copy) / hugePages
    const minor = median(taken.continue) / hugePages
    lab.plot({
      kind: 'bars',
      title: 'A page of 2 MiB',
      yLabel: 'us',
      yLog: true,
      bars: [
        { name: 'COPY', value: copy },
        { name: 'memcpy into the alias', value: median(taken.memcpy) },
        { name: 'CONTINUE', value: minor },
      ],
    })
    return {
      'COPY against CONTINUE': copy / minor,
      'us, COPY': copy,
      'us, CONTINUE': minor,
      'us, memcpy into the alias': median(taken.memcpy),
    }
  },
})

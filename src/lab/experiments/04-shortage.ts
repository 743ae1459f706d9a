/**
 * What a fill returns when memory or huge pages run out, or the process has died. Rows 11 to 15.
 */
import { spawn } from 'node:child_process'
import { openSync } from 'node:fs'
import {
  MapFlag,
  Ioctl,
  Mode,
  Prot,
  RawUserfaultfd,
  addressOf,
  cString,
  experiment,
  must,
  step,
  syscall,
} from '../index.js'
import type { Lab } from '../index.js'

const pageBytes = 4096
const hugeBytes = 2 ** 21

/** The 64-bit entry of /proc/self/pagemap for an address. */
function pagemapEntry(address: number): bigint {
  const word = new BigUint64Array(1)
  const fd = openSync('/proc/self/pagemap', 'r')
  must(syscall('pread64', fd, word, 8, (address / pageBytes) * 8), 'pread pagemap')
  syscall('close', fd)
  return word[0] ?? 0n
}

export const hugetlbPoolEexist = experiment({
  id: 'hugetlb-pool-eexist',
  tags: ['fill', 'hugetlb', 'memory'],
  question: 'What does UFFDIO_COPY return when the pool of huge pages is empty?',
  method:
    'Maps one page more than the pool has, without a reservation, and copies into all of them; then ' +
    'checks in the pagemap whether the refused page is present.',
  needs: { hugePages: 2, features: ['MISSING_HUGETLBFS'] },
  expected: {
    values: { 'last errno': 'EEXIST', 'the page is present': false },
    source: 'kernel-behaviour 3.4; ENOMEM according to ioctl_userfaultfd(2)',
  },
  run(lab) {
    const free = lab.hugePagesFree
    if (free > 64)
      lab.notPossible(`the pool has ${free} free pages; this fills it, and takes at most 64`)
    const uffd = lab.open()
    const { address } = lab.map('anon-shared', {
      pages: ((free + 1) * hugeBytes) / pageBytes,
      flags: MapFlag.HUGETLB + MapFlag.HUGE_2MB + MapFlag.NORESERVE,
    })
    uffd.register(address, (free + 1) * hugeBytes, Mode.MISSING)
    const source = new Uint8Array(hugeBytes)
    for (let index = 0; index <= free; index += 1) {
      const { errno } = uffd.copy(address + index * hugeBytes, source, hugeBytes)
      if (errno === 'ok') continue
      const entry = pagemapEntry(address + index * hugeBytes)
      lab.note(`refused after ${index} pages`)
      return { 'last errno': errno, 'the page is present': entry >> 63n === 1n }
    }
    return { 'last errno': 'ok', 'the page is present': true }
  },
})

export const tmpfsFull = experiment({
  id: 'tmpfs-full',
  tags: ['fill', 'memory', 'errors'],
  question: 'What does UFFDIO_COPY return when a tmpfs is full?',
  method: 'Mounts a tmpfs of 16 KiB, maps a sparse file of 8 pages, copies all 8, then the fifth.',
  needs: { root: true, features: ['MISSING_SHMEM'], commands: ['mount'] },
  expected: {
    values: { 'run of 8': ['EAGAIN', 4 * pageBytes], 'the fifth page': ['ENOMEM', -12] },
    source: 'kernel-behaviour 3.3: ENOMEM, not ENOSPC',
  },
  run(lab) {
    lab.command('mkdir', `${lab.scratch}/tmpfs`)
    lab.command('mount', '-t', 'tmpfs', '-o', 'size=16k', 'none', `${lab.scratch}/tmpfs`)
    const fd = openSync(`${lab.scratch}/tmpfs/file`, 'w+')
    must(syscall('ftruncate', fd, 8 * pageBytes), 'ftruncate')
    const address = must(
      syscall('mmap', 0, 8 * pageBytes, Prot.READ_WRITE, MapFlag.SHARED, fd, 0),
      'mmap',
    )
    const uffd = lab.open()
    uffd.register(address, 8 * pageBytes, Mode.MISSING)
    const bytes = new Uint8Array(8 * pageBytes).fill(1)
    const run = uffd.copy(address, bytes, 8 * pageBytes)
    const fifth = uffd.copy(address + 4 * pageBytes, bytes, pageBytes)
    return {
      'run of 8': [run.errno, run.field],
      'the fifth page': [fifth.errno, fifth.field],
    }
  },
})

export const memcgOom = experiment({
  id: 'memcg-oom',
  tags: ['fill', 'memory', 'cgroup'],
  question: "What happens to a fill when the control group's memory is used up?",
  method: 'A forked child joins a group of 16 MiB and copies 32 MiB into place.',
  needs: { root: true, memoryMiB: 128 },
  expected: {
    values: { 'child ends by': 'SIGKILL', 'the copies return': 'not done' },
    source: 'kernel-behaviour 3.3: no errno, the OOM killer',
  },
  async run(lab) {
    const group = lab.memoryGroup(16 * 2 ** 20)
    const join = openSync(group.procsPath, 'w')
    const bytes = 32 * 2 ** 20
    const source = addressOf(lab.keep(new Uint8Array(pageBytes).fill(1)))
    const memory = lab.map('anon', { pages: bytes / pageBytes })
    // Memory is charged to the group of its owner, so the child needs a userfaultfd of its own.
    // close_range has closed all descriptors from 3 on, so the new one is 3.
    const own = 3
    const range = BigInt64Array.of(BigInt(memory.address), BigInt(bytes), 1n, 0n)
    const status = new Int32Array(2)
    const thread = lab.thread([
      step.fork(
        step.syscall('write', join, cString('0'), 1),
        step.syscall('close_range', own, 2 ** 31, 0),
        step.syscall('userfaultfd', 1),
        step.syscall('ioctl', own, Ioctl.API, BigUint64Array.of(0xaan, 0n, 0n)),
        step.syscall('ioctl', own, Ioctl.REGISTER, range),
        step.fill(own, Ioctl.COPY, memory.address, source, pageBytes, bytes),
      ),
      step.syscall('wait4', -1, status, 0, 0),
    ])
    const results = await thread.done(8000)
    const prepared = results.slice(1, 6).map(({ outcome }) => outcome)
    if (prepared.some((outcome) => outcome !== 'ok'))
      throw new Error(`prepared: ${String(prepared)}`)
    const ended = status[0] ?? 0
    return {
      'child ends by': ended % 128 === 9 ? 'SIGKILL' : `status ${ended}`,
      'the copies return': results[6]?.outcome ?? '',
    }
  },
})

/** Duplicates the userfaultfd of another process, which then dies before the duplicate is used. */
async function uffdOfTheDead(lab: Lab): Promise<{ uffd: RawUserfaultfd; address: number }> {
  const index = new URL('../index.js', import.meta.url).href
  const source = `
    const { RawUserfaultfd, must, syscall } = await import(${JSON.stringify(index)})
    const uffd = RawUserfaultfd.open()
    const address = must(syscall('mmap', 0, 65536, 3, 0x22, -1, 0), 'mmap')
    uffd.register(address, 65536, 1)
    console.log(uffd.fd + ' ' + address)
    setInterval(() => {}, 1000)`
  const child = spawn(process.execPath, ['--input-type=module', '-e', source], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const line = await new Promise<string>((resolve) => {
    child.stdout.setEncoding('utf8').once('data', resolve)
  })
  const [fd = 0, address = 0] = line.trim().split(' ').map(Number)
  const pidfd = must(syscall('pidfd_open', child.pid ?? 0, 0), 'pidfd_open')
  const taken = must(syscall('pidfd_getfd', pidfd, fd, 0), 'pidfd_getfd')
  const ended = new Promise((resolve) => child.once('close', resolve))
  child.kill('SIGKILL')
  await ended
  lab.keep(child)
  return { uffd: new RawUserfaultfd(taken), address }
}

export const esrchOnExit = experiment({
  id: 'esrch-on-exit',
  tags: ['errors', 'process'],
  question: 'What do the ioctls return after the process that owns the memory has ended?',
  method: 'Takes the userfaultfd of a child by pidfd_getfd(2), kills the child, and tries each.',
  needs: { features: ['POISON', 'MOVE'] },
  expected: {
    values: {
      COPY: ['ESRCH', 0x5a5a],
      ZEROPAGE: 'ESRCH',
      CONTINUE: 'ESRCH',
      POISON: 'ESRCH',
      MOVE: 'EINVAL',
      WRITEPROTECT: 'ESRCH',
      WAKE: 'ok',
      REGISTER: 'ENOMEM',
      UNREGISTER: 'ENOMEM',
      poll: 0,
      read: 0,
    },
    source: 'ioctl_userfaultfd(2): ESRCH since 4.13; kernel-behaviour 3.3, 4.2',
  },
  async run(lab) {
    const { uffd, address } = await uffdOfTheDead(lab)
    const own = lab.map('anon')
    own.set(0, 1)
    const copy = uffd.copy(address, new Uint8Array(pageBytes), pageBytes, 0, 0x5a5a)
    return {
      COPY: [copy.errno, copy.field],
      ZEROPAGE: uffd.zeropage(address, pageBytes).errno,
      CONTINUE: uffd.continue(address, pageBytes).errno,
      POISON: uffd.poison(address, pageBytes).errno,
      MOVE: uffd.move(address, own.address, pageBytes).errno,
      WRITEPROTECT: uffd.writeProtect(address, pageBytes, 1),
      WAKE: uffd.wake(address, pageBytes),
      REGISTER: uffd.register(address, pageBytes, Mode.MISSING).errno,
      UNREGISTER: uffd.unregister(address, pageBytes),
      poll: uffd.poll(),
      read: uffd.read().length,
    }
  },
})

/** How many 512-byte blocks a file has. */
function blocksOf(lab: Lab, fd: number): number {
  return Number(lab.command('stat', '-L', '-c', '%b', `/proc/${process.pid}/fd/${fd}`))
}

export const zeropageKinds = experiment({
  id: 'zeropage-kinds',
  tags: ['fill', 'kinds'],
  question: 'Where does UFFDIO_ZEROPAGE work, and what does it cost in memory?',
  method: 'One page of private, of shared and of huge memory; for shared, the blocks of the file.',
  needs: { features: ['MISSING_SHMEM'], optionalHugePages: 1 },
  expected: {
    values: { private: 'ok', shared: 'ok', 'blocks that the file grew by': 8, hugetlb: 'EINVAL' },
    source: 'ioctl_userfaultfd(2); shared since 4.13; kernel-behaviour 6.3',
  },
  run(lab) {
    const uffd = lab.open()
    const zero = (memory: ReturnType<Lab['map']>) => {
      uffd.register(memory.address, memory.lengthBytes, Mode.MISSING)
      return uffd.zeropage(memory.address, memory.pageBytes).errno
    }
    const shared = lab.map('shmem')
    const before = blocksOf(lab, shared.fd)
    const seen = {
      private: zero(lab.map('anon')),
      shared: zero(shared),
      'blocks that the file grew by': blocksOf(lab, shared.fd) - before,
    }
    if (lab.hugePagesFree > 0) return { ...seen, hugetlb: zero(lab.map('hugetlb', { pages: 1 })) }
    lab.unavailable('hugetlb', 'no free 2 MiB pages')
    return seen
  },
})

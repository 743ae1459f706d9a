/** What can be registered, in which modes, and which descriptor owns a range. Rows 4 to 6. */
import { openSync } from 'node:fs'
import { MapFlag, Mode, Prot, experiment, must, syscall } from '../index.js'
import type { Expectation, Lab, LabMemory, LabMemoryKind } from '../index.js'

const modes = [1, 2, 3, 4, 5, 6, 7] as const

/** Each mapping's name, kind and how to map it. */
const kinds: readonly [string, LabMemoryKind, { protection?: number; flags?: number }][] = [
  ['private', 'anon', {}],
  ['private, PROT_NONE', 'anon', { protection: Prot.NONE }],
  ['private, PROT_READ', 'anon', { protection: Prot.READ }],
  ['shared', 'anon-shared', {}],
  ['memfd shared', 'shmem', {}],
  ['memfd private', 'shmem-private', {}],
  ['file shared', 'file', {}],
]
const hugeKinds: typeof kinds = [
  ['hugetlb shared', 'hugetlb', {}],
  ['hugetlb private', 'hugetlb-private', {}],
]

function masks(lab: Lab, memory: LabMemory): string[] {
  return modes.map((mode) => {
    const uffd = lab.open()
    const { errno, ioctls } = uffd.register(memory.address, memory.lengthBytes, mode)
    uffd.close()
    return errno === 'ok' ? `0x${ioctls.toString(16)}` : errno
  })
}

const E = 'EINVAL'
const privateMasks = ['0x13c', '0x17c', '0x17c', E, E, E, E]
const sharedMasks = ['0x13c', '0x17c', '0x17c', '0x1bc', '0x1bc', '0x1fc', '0x1fc']
const hugeMasks = ['0x10c', '0x14c', '0x14c', '0x18c', '0x18c', '0x1cc', '0x1cc']

const maskExpectation: Expectation = {
  since: '6.8',
  values: {
    private: privateMasks,
    'private, PROT_NONE': privateMasks,
    'private, PROT_READ': privateMasks,
    shared: sharedMasks,
    'memfd shared': sharedMasks,
    'memfd private': sharedMasks,
    'file shared': [E, E, E, E, E, E, E],
    'hugetlb shared': hugeMasks,
    'hugetlb private': hugeMasks,
    'mode 0 or 8': [E, E],
  },
  source: 'ioctl_userfaultfd(2), UFFDIO_REGISTER; kernel-behaviour 2.1',
}

export const registerMask = experiment({
  id: 'register-mask',
  tags: ['register', 'kinds'],
  question: 'Which ioctls does the kernel offer for each kind of memory and each mode?',
  method: 'UFFDIO_REGISTER of nine kinds with the modes 1 to 7 (MISSING 1, WP 2, MINOR 4).',
  expected: maskExpectation,
  needs: {
    features: ['MOVE', 'POISON', 'WP_HUGETLBFS_SHMEM', 'MINOR_SHMEM'],
    optionalHugePages: 4,
  },
  mirrors: ['uffd-unit-tests: register-ioctls'],
  run(lab) {
    const all = lab.hugePagesFree >= 4 ? [...kinds, ...hugeKinds] : kinds
    for (const [name] of hugeKinds) {
      if (!all.some(([each]) => each === name)) lab.unavailable(name, 'no free 2 MiB pages')
    }
    const rows = all.map(([name, kind, options]) => {
      const memory = lab.map(kind, { pages: 2, ...options })
      return [name, masks(lab, memory)] as const
    })
    const memory = lab.map('anon')
    const odd = [0, 8].map((mode) => lab.open().register(memory.address, 4096, mode).errno)
    return { ...Object.fromEntries(rows), 'mode 0 or 8': odd }
  },
})

export const registerHugetlbAlignment = experiment({
  id: 'register-hugetlb-alignment',
  tags: ['register', 'hugetlb'],
  question: 'Must a range of huge pages be aligned to them?',
  method:
    'Registers 4 KiB of a 2 MiB page, at its beginning and in its middle, and then all of it.',
  needs: { hugePages: 1, features: ['MISSING_HUGETLBFS'] },
  expected: {
    values: { 'its first 4 KiB': E, '4 KiB of it': E, 'all of it': 'ok' },
    source: 'kernel-behaviour 2.2',
  },
  run(lab) {
    const memory = lab.map('hugetlb', { pages: 1 })
    const register = (offset: number, length: number) =>
      lab.open().register(memory.address + offset, length, Mode.MISSING).errno
    return {
      'its first 4 KiB': register(0, 4096),
      '4 KiB of it': register(2 ** 20, 4096),
      'all of it': register(0, memory.lengthBytes),
    }
  },
})

export const registerAsyncFile = experiment({
  id: 'register-async-file',
  tags: ['register', 'kinds', 'write-protect'],
  question: 'Can a plain file be write-protected with WP_ASYNC?',
  method: 'Registers a shared mapping of a file on disk, with and without WP_ASYNC, modes 1 to 7.',
  needs: { features: ['WP_ASYNC'] },
  expected: {
    values: {
      'with WP_ASYNC': [E, '0x17c', E, E, E, E, E],
      without: [E, E, E, E, E, E, E],
    },
    source: 'commit d61ea1cb0095 (userfaultfd: UFFD_FEATURE_WP_ASYNC, 6.7); kernel-behaviour 2.1',
  },
  run(lab) {
    const memory = lab.map('file')
    if (lab.command('stat', '-f', '-c', '%T', lab.scratch) === 'tmpfs') {
      lab.notPossible('the temporary folder is a tmpfs; set TMPDIR to a folder on a disk')
    }
    const withAsync = modes.map((mode) => {
      const uffd = lab.open('WP_ASYNC')
      const { errno, ioctls } = uffd.register(memory.address, memory.lengthBytes, mode)
      uffd.close()
      return errno === 'ok' ? `0x${ioctls.toString(16)}` : errno
    })
    return { 'with WP_ASYNC': withAsync, without: masks(lab, memory) }
  },
})

export const registerErrors = experiment({
  id: 'register-errors',
  tags: ['register', 'errors'],
  question: 'Which ranges does UFFDIO_REGISTER refuse, and with which errno?',
  method: 'Registers empty, unaligned, unmapped, spanning, foreign and read-only ranges.',
  expected: {
    values: {
      empty: E,
      'unaligned start': E,
      'unaligned length': E,
      unmapped: E,
      'spans a hole': 'ok',
      'in another userfaultfd': 'EBUSY',
      'again, with another mode': 'ok',
      'shared, from a read-only descriptor': 'EPERM',
      'private, from a read-only descriptor': 'ok',
      'unregister a range that was never registered': 'ok',
      'unregister a range that is not mapped': E,
    },
    source: 'ioctl_userfaultfd(2); kernel-behaviour 2.2',
  },
  run(lab) {
    const uffd = lab.open()
    const memory = lab.map('anon', { pages: 8 })
    const holed = lab.map('anon', { pages: 8 })
    // Unmapped right before the call, so that no other mapping can take its place.
    const unmapped = () => {
      const { address } = lab.map('anon', { pages: 1 })
      must(syscall('munmap', address, 4096), 'munmap')
      return address
    }
    must(syscall('munmap', holed.page(3), 4096), 'munmap')
    const file = lab.map('shmem')
    const readOnly = openSync(`/proc/self/fd/${file.fd}`, 'r')
    const viewOf = (flags: number) =>
      must(syscall('mmap', 0, 4096, Prot.READ, flags, readOnly, 0), 'mmap')
    const register = (start: number, length: number, mode: number = Mode.MISSING) =>
      uffd.register(start, length, mode).errno
    const other = lab.open()
    const never = lab.map('anon')
    return {
      empty: register(memory.address, 0),
      'unaligned start': register(memory.address + 1, 4096),
      'unaligned length': register(memory.address, 100),
      unmapped: register(unmapped(), 4096),
      'spans a hole': register(holed.address, holed.lengthBytes),
      'in another userfaultfd':
        [
          register(memory.address, memory.lengthBytes),
          other.register(memory.address, memory.lengthBytes, Mode.MISSING).errno,
        ][1] ?? '',
      'again, with another mode': register(memory.address, memory.lengthBytes, Mode.WP),
      'shared, from a read-only descriptor': register(viewOf(MapFlag.SHARED), 4096),
      'private, from a read-only descriptor': register(viewOf(MapFlag.PRIVATE), 4096),
      'unregister a range that was never registered': uffd.unregister(never.address, 4096),
      'unregister a range that is not mapped': uffd.unregister(unmapped(), 4096),
    }
  },
})

export const crossUffdUnregister = experiment({
  id: 'cross-uffd-unregister',
  tags: ['register', 'errors'],
  question: "Can one userfaultfd unregister another one's range?",
  method: 'A registers, B unregisters and then registers the same range.',
  expected: [
    {
      since: '6.13',
      values: { 'B unregisters': E, 'B registers': 'EBUSY' },
      source: 'kernel-behaviour 2.2: refused here, silently removed by older kernels',
    },
    {
      values: { 'B unregisters': 'ok', 'B registers': 'ok' },
      source: 'kernel-behaviour 8, row 6: 6.12 and before',
    },
  ],
  run(lab) {
    const [a, b] = [lab.open(), lab.open()]
    const memory = lab.map('anon')
    a.register(memory.address, memory.lengthBytes, Mode.MISSING)
    return {
      'B unregisters': b.unregister(memory.address, memory.lengthBytes),
      'B registers': b.register(memory.address, memory.lengthBytes, Mode.MISSING).errno,
    }
  },
})

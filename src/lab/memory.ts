/** Mappings of every kind that userfaultfd supports, by raw mmap(2). */
import { openSync } from 'node:fs'
import { join } from 'node:path'
import { cString, MapFlag, must, outcomeName, peek, poke, Prot, syscall } from '../host/index.js'

/** `file` is a regular file in the experiment's scratch folder, shared. */
export const memoryKinds = [
  'anon',
  'anon-shared',
  'shmem',
  'shmem-private',
  'hugetlb',
  'hugetlb-private',
  'file',
] as const

export type LabMemoryKind = (typeof memoryKinds)[number]

/** The kinds of the kernel's own tests (uffd-unit-tests). */
export const selftestKinds = [
  'anon',
  'shmem',
  'shmem-private',
  'hugetlb',
  'hugetlb-private',
] as const

export interface MemoryOptions {
  /** Host pages; default 4. */
  pages?: number
  /** A second shared mapping of the same file; not for `anon` and `anon-shared`. Default false. */
  alias?: boolean
  /** {@link Prot}; default read and write. */
  protection?: number
  /** More bits of {@link MapFlag}. */
  flags?: number
  /**
   * Start at a multiple of this many bytes; default the host page. Use 2 MiB
   * for transparent huge pages.
   */
  alignBytes?: number
}

export interface LabMemory {
  readonly kind: LabMemoryKind
  readonly address: number
  /** Address of the second mapping; -1 without one. */
  readonly alias: number
  readonly lengthBytes: number
  readonly pageBytes: number
  /** Descriptor of the memfd or file; -1 without one. */
  readonly fd: number
  /** Address of a host page. */
  page: (index: number) => number
  /** Reads a byte in user mode, on this thread. */
  byte: (index: number) => number
  /** Writes one byte to a page in user mode, on this thread. */
  set: (index: number, value: number) => void
  /** Returns `ok` or the errno's name; default: all pages. */
  madvise: (advice: number, firstPage?: number, pages?: number) => string
}

const hugePage = 2 ** 21
let files = 0

/** Maps memory that lives as long as the process of the experiment. */
export function mapMemory(kind: LabMemoryKind, scratch: string, options: MemoryOptions): LabMemory {
  const huge = kind.startsWith('hugetlb')
  const pageBytes = huge ? hugePage : 4096
  const lengthBytes = (options.pages ?? 4) * pageBytes
  const anonymous = kind === 'anon' || kind === 'anon-shared'
  const fd = anonymous ? -1 : openBacking(kind, scratch, lengthBytes)
  const isPrivate = kind === 'anon' || kind.endsWith('-private')
  const flags =
    (isPrivate ? MapFlag.PRIVATE : MapFlag.SHARED) +
    (anonymous ? MapFlag.ANONYMOUS : 0) +
    (options.flags ?? 0)
  const { protection = Prot.READ_WRITE, alignBytes = pageBytes } = options
  const address = mapAligned(lengthBytes, protection, flags, fd, alignBytes)
  const alias =
    options.alias === true
      ? mapAligned(lengthBytes, Prot.READ_WRITE, MapFlag.SHARED, fd, alignBytes)
      : -1
  const page = (index: number) => address + index * pageBytes
  return {
    kind,
    address,
    alias,
    lengthBytes,
    pageBytes,
    fd,
    page,
    byte: (index) => peek(page(index))[0] ?? 0,
    set: (index, value) => poke(page(index), Uint8Array.of(value)),
    madvise: (advice, first = 0, pages = lengthBytes / pageBytes - first) =>
      outcomeName(syscall('madvise', page(first), pages * pageBytes, advice)),
  }
}

function openBacking(kind: LabMemoryKind, scratch: string, lengthBytes: number): number {
  if (kind === 'file') {
    files += 1
    const fd = openSync(join(scratch, `file-${files}`), 'w+')
    must(syscall('fallocate', fd, 0, 0, lengthBytes), 'fallocate')
    return fd
  }
  const memfdHugetlb = 4 + 21 * 2 ** 26
  const flags = 1 + (kind.startsWith('hugetlb') ? memfdHugetlb : 0)
  const fd = must(syscall('memfd_create', cString('lab'), flags), 'memfd_create')
  must(syscall('ftruncate', fd, lengthBytes), 'ftruncate')
  return fd
}

/** mmap(2) aligns to a page only: reserve more, and map over the aligned part. */
function mapAligned(
  lengthBytes: number,
  protection: number,
  flags: number,
  fd: number,
  alignBytes: number,
): number {
  const map = (address: number, length: number, how: number, more: number, file: number) =>
    must(syscall('mmap', address, length, how, more, file, 0), 'mmap')
  if (alignBytes <= 4096) {
    return map(0, lengthBytes, protection, flags, fd)
  }
  const reserve = MapFlag.PRIVATE + MapFlag.ANONYMOUS + MapFlag.NORESERVE
  const taken = map(0, lengthBytes + alignBytes, Prot.NONE, reserve, -1)
  const address = Math.ceil(taken / alignBytes) * alignBytes
  return map(address, lengthBytes, protection, flags + MapFlag.FIXED, fd)
}

/** What this process may do, and which settings decide it, as the kernel shows them. */
import { readFileSync } from 'node:fs'
import { probeDoor } from './open-userfaultfd.js'
import type { DoorReport } from './open-userfaultfd.js'

/** The capabilities that matter here, by their bits (capabilities(7)). */
const capabilityBits = { SYS_PTRACE: 19, SYS_ADMIN: 21, SYS_RESOURCE: 24, IPC_LOCK: 14 } as const

export type CapabilityName = keyof typeof capabilityBits

/** Raw facts; `undefined` where this kernel does not show one. */
export interface Privileges {
  uid: number
  /** Effective ones, of those that matter here. CAP_SYS_PTRACE decides about kernel faults and EVENT_FORK. */
  capabilities: ReadonlySet<CapabilityName>
  /** Each way to open a userfaultfd, and what it answered. */
  doors: readonly DoorReport[]
  /** vm.unprivileged_userfaultfd: 1 lets everybody handle kernel faults. */
  unprivilegedUserfaultfd: number | undefined
  /** 2 MiB pages: in the pool, and free of reservations. */
  hugePages: { total: number; free: number } | undefined
  /** `always`, `madvise` or `never`, for private and for shared memory. */
  transparentHugePages: { anon: string | undefined; shmem: string | undefined }
  /** RLIMIT_MEMLOCK, bytes; Infinity if unlimited. */
  memlockBytes: number | undefined
  /** vm.max_map_count: unregistering part of a mapping splits it. */
  maxMapCount: number | undefined
  memoryAvailableBytes: number | undefined
  /** The control group's limit less its use, bytes; Infinity without a limit. */
  memoryGroupHeadroomBytes: number | undefined
}

export function readPrivileges(): Privileges {
  const huge = '/sys/kernel/mm/hugepages/hugepages-2048kB'
  const total = readNumber(`${huge}/nr_hugepages`)
  const free = readNumber(`${huge}/free_hugepages`)
  const reserved = readNumber(`${huge}/resv_hugepages`)
  const thp = '/sys/kernel/mm/transparent_hugepage'
  const available = field('/proc/meminfo', /^MemAvailable:\s+(\d+) kB/m)
  return {
    uid: process.getuid?.() ?? -1,
    capabilities: effectiveCapabilities(),
    doors: [probeDoor('device', false), probeDoor('syscall', false), probeDoor('syscall', true)],
    unprivilegedUserfaultfd: readNumber('/proc/sys/vm/unprivileged_userfaultfd'),
    hugePages:
      total === undefined || free === undefined
        ? undefined
        : { total, free: free - (reserved ?? 0) },
    transparentHugePages: {
      anon: field(`${thp}/enabled`, /\[(\w+)\]/),
      shmem: field(`${thp}/shmem_enabled`, /\[(\w+)\]/),
    },
    memlockBytes: memlock(),
    maxMapCount: readNumber('/proc/sys/vm/max_map_count'),
    memoryAvailableBytes: available === undefined ? undefined : Number(available) * 1024,
    memoryGroupHeadroomBytes: memoryGroupHeadroom(),
  }
}

function effectiveCapabilities(): ReadonlySet<CapabilityName> {
  const mask = BigInt(`0x${field('/proc/self/status', /^CapEff:\s+([0-9a-f]+)/m) ?? '0'}`)
  const names = Object.keys(capabilityBits) as CapabilityName[]
  return new Set(names.filter((name) => (mask & (1n << BigInt(capabilityBits[name]))) !== 0n))
}

function memlock(): number | undefined {
  const text = field('/proc/self/limits', /^Max locked memory\s+(\S+)/m)
  return text === 'unlimited' ? Infinity : text === undefined ? undefined : Number(text)
}

/** Version 2 of control groups, else version 1; the process' own group only, not its parents. */
function memoryGroupHeadroom(): number | undefined {
  const groups = read('/proc/self/cgroup') ?? ''
  const unified = /^0::(.*)$/m.exec(groups)?.[1]
  const memory = /^\d+:(?:\w+,)*memory(?:,\w+)*:(.*)$/m.exec(groups)?.[1]
  const [folder, limitName, useName] =
    memory === undefined
      ? [`/sys/fs/cgroup${unified ?? ''}`, 'memory.max', 'memory.current']
      : [`/sys/fs/cgroup/memory${memory}`, 'memory.limit_in_bytes', 'memory.usage_in_bytes']
  const limit = read(`${folder}/${limitName}`)?.trim()
  const use = readNumber(`${folder}/${useName}`)
  if (limit === undefined || use === undefined) return undefined
  // Version 1 writes "no limit" as a number near 2^63.
  return limit === 'max' || Number(limit) > 2 ** 60 ? Infinity : Math.max(0, Number(limit) - use)
}

function read(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return undefined // not there, or not for this user: both are answers
  }
}

function field(path: string, pattern: RegExp): string | undefined {
  return pattern.exec(read(path) ?? '')?.[1]
}

function readNumber(path: string): number | undefined {
  const text = read(path)?.trim()
  return text === undefined || text === '' ? undefined : Number(text)
}

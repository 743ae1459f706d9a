/** The privileges of this process, and the kernel settings that decide them. */
import { readConfinement } from './confinement.js'
import type { Confinement } from './confinement.js'
import { hugePageLimit, memoryLimit } from './control-groups.js'
import type { GroupLimit } from './control-groups.js'
import { probeOpenMethods } from './open-userfaultfd.js'
import type { OpenMethodReport } from './open-userfaultfd.js'
import { fieldOf, readNumber } from './proc.js'

/** The capabilities that matter here, by their bits (capabilities(7)). */
const capabilityBits = { SYS_PTRACE: 19, SYS_ADMIN: 21, SYS_RESOURCE: 24, IPC_LOCK: 14 } as const

export type CapabilityName = keyof typeof capabilityBits

/** Raw facts; `undefined` if this kernel does not show one. */
export interface Privileges {
  uid: number
  /** Effective capabilities. CAP_SYS_PTRACE allows kernel faults and EVENT_FORK. */
  capabilities: ReadonlySet<CapabilityName>
  /** Each method to open a userfaultfd, and its result. */
  openMethods: readonly OpenMethodReport[]
  confinement: Confinement
  /** vm.unprivileged_userfaultfd: 1 lets every user handle kernel faults. */
  unprivilegedUserfaultfd: number | undefined
  /** 2 MiB pages: in the pool, and free and not reserved. */
  hugePages: { total: number; free: number } | undefined
  /** `always`, `madvise` or `never`, for private and for shared memory. */
  transparentHugePages: { anon: string | undefined; shmem: string | undefined }
  /** RLIMIT_MEMLOCK, bytes; Infinity if unlimited. */
  memlockBytes: number | undefined
  /** vm.max_map_count: unregistering part of a mapping splits it. */
  maxMapCount: number | undefined
  memoryAvailableBytes: number | undefined
  /** The tightest limit of this control group and its ancestors; undefined if there is none. */
  memoryGroup: GroupLimit | undefined
  /** The same for 2 MiB pages. */
  hugePageGroup: GroupLimit | undefined
}

export function readPrivileges(): Privileges {
  const huge = '/sys/kernel/mm/hugepages/hugepages-2048kB'
  const total = readNumber(`${huge}/nr_hugepages`)
  const free = readNumber(`${huge}/free_hugepages`)
  const reserved = readNumber(`${huge}/resv_hugepages`)
  const thp = '/sys/kernel/mm/transparent_hugepage'
  const available = fieldOf('/proc/meminfo', /^MemAvailable:\s+(\d+) kB/m)
  return {
    uid: process.getuid?.() ?? -1,
    capabilities: effectiveCapabilities(),
    openMethods: probeOpenMethods(),
    confinement: readConfinement(),
    unprivilegedUserfaultfd: readNumber('/proc/sys/vm/unprivileged_userfaultfd'),
    hugePages:
      total === undefined || free === undefined
        ? undefined
        : { total, free: free - (reserved ?? 0) },
    transparentHugePages: {
      anon: fieldOf(`${thp}/enabled`, /\[(\w+)\]/),
      shmem: fieldOf(`${thp}/shmem_enabled`, /\[(\w+)\]/),
    },
    memlockBytes: memlock(),
    maxMapCount: readNumber('/proc/sys/vm/max_map_count'),
    memoryAvailableBytes: available === undefined ? undefined : Number(available) * 1024,
    memoryGroup: memoryLimit(),
    hugePageGroup: hugePageLimit(),
  }
}

function effectiveCapabilities(): ReadonlySet<CapabilityName> {
  const mask = BigInt(`0x${fieldOf('/proc/self/status', /^CapEff:\s+([0-9a-f]+)/m) ?? '0'}`)
  const names = Object.keys(capabilityBits) as CapabilityName[]
  return new Set(names.filter((name) => (mask & (1n << BigInt(capabilityBits[name]))) !== 0n))
}

function memlock(): number | undefined {
  const text = fieldOf('/proc/self/limits', /^Max locked memory\s+(\S+)/m)
  return text === 'unlimited' ? Infinity : text === undefined ? undefined : Number(text)
}

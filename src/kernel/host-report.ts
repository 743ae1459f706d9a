/** What this host offers for post-copy, as a list of facts for `postcopy doctor`. */
import { release } from 'node:os'
import { PostcopyError } from '../errors.js'
import { formatByteSize } from '../units.js'
import { featureSince } from './features.js'
import type { FeatureName } from './features.js'
import { describeLimit } from './control-groups.js'
import { MemoryRegion } from './memory-region.js'
import { remediesFor, remedyFor } from './open-remedy.js'
import { readPrivileges } from './privileges.js'
import type { Privileges } from './privileges.js'

/** One feature or resource that the host has or lacks. */
export interface HostFact {
  id: string
  title: string
  /** `limited`: works in part; `missing`: what it enables does not work. */
  status: 'ok' | 'limited' | 'missing'
  /** What the probe found. */
  found: string
  /** What it enables. */
  enables: string
  /** How to get it; absent if nothing needs to change. */
  remedy?: string | undefined
}

export interface HostReport {
  kernelRelease: string
  privileges: Privileges
  /** Features of the first open method that worked, the most capable one first. */
  features: ReadonlySet<FeatureName>
  facts: readonly HostFact[]
}

/** Asks the running kernel; opens and closes descriptors, changes nothing. */
export function probeHost(): HostReport {
  const privileges = readPrivileges()
  const features =
    privileges.openMethods.find(({ error }) => error === undefined)?.available ?? new Set()
  const kernelRelease = release()
  const facts = [
    userfaultfdFact(privileges),
    ...openMethodFacts(privileges),
    ...featureFacts(features),
    forkFact(privileges, features),
    pagemapFact(),
    hugePageFact(privileges),
    ...memoryFacts(privileges),
  ]
  return { kernelRelease, privileges, features, facts }
}

function userfaultfdFact({ openMethods, confinement }: Privileges): HostFact {
  const open = openMethods.filter(({ error }) => error === undefined)
  const full = open.some(({ userModeOnly }) => !userModeOnly)
  return {
    id: 'userfaultfd',
    title: 'Page faults of this process',
    status: full ? 'ok' : open.length > 0 ? 'limited' : 'missing',
    found: full
      ? 'of user code and of the kernel'
      : open.length > 0
        ? 'of user code only: a system call that meets a missing page fails with EFAULT'
        : 'none',
    enables: 'post-copy: the guest runs before its memory has been received',
    remedy: full ? undefined : remediesFor(openMethods, confinement),
  }
}

function openMethodFacts({ openMethods, confinement }: Privileges): HostFact[] {
  return openMethods.map((answer) => {
    const { method, userModeOnly, error } = answer
    return {
      id: `open-${method}${userModeOnly ? '-user-mode-only' : ''}`,
      title:
        method === 'device'
          ? '/dev/userfaultfd'
          : `userfaultfd(2)${userModeOnly ? ', user-mode only' : ''}`,
      status: error === undefined ? 'ok' : 'missing',
      found: error ?? 'opens',
      enables: userModeOnly ? 'faults of user code' : 'faults of user code and of the kernel',
      remedy: remedyFor(answer, openMethods, confinement),
    }
  })
}

const featureUses: readonly (readonly [FeatureName, string])[] = [
  ['MISSING_SHMEM', 'destination with --memory memfd'],
  ['MISSING_HUGETLBFS', 'destination with --memory hugetlb'],
  ['THREAD_ID', 'blocktime per vCPU'],
  ['EXACT_ADDRESS', 'fault addresses below the page'],
  ['PAGEFAULT_FLAG_WP', 'finding dirty pages on private memory, by write-protect faults'],
  ['WP_HUGETLBFS_SHMEM', 'the same on memfd and hugetlb'],
  ['WP_ASYNC', 'finding dirty pages without a fault each: about 60 times cheaper'],
  ['MINOR_SHMEM', 'placing without a copy on memfd (UFFDIO_CONTINUE)'],
  ['MINOR_HUGETLBFS', 'placing without a copy on hugetlb (UFFDIO_CONTINUE)'],
  ['POISON', 'marking lost pages (UFFDIO_POISON)'],
  ['MOVE', 'moving pages inside a process (UFFDIO_MOVE)'],
]

function featureFacts(features: ReadonlySet<FeatureName>): HostFact[] {
  return featureUses.map(([name, enables]) => {
    const has = features.has(name)
    const remedy = has ? undefined : `Linux ${featureSince(name)} or later`
    return {
      id: `feature-${name}`,
      title: `UFFD_FEATURE_${name}`,
      status: has ? 'ok' : 'missing',
      found: has ? 'yes' : 'no',
      enables,
      remedy,
    }
  })
}

function forkFact(
  { capabilities, confinement }: Privileges,
  features: ReadonlySet<FeatureName>,
): HostFact {
  // The kernel checks the capability in the initial user namespace.
  const isOnlyThere = confinement.userNamespace && capabilities.has('SYS_PTRACE')
  const has = capabilities.has('SYS_PTRACE') && !isOnlyThere && features.has('EVENT_FORK')
  return {
    id: 'event-fork',
    title: 'CAP_SYS_PTRACE',
    status: has ? 'ok' : 'missing',
    found: has ? 'yes' : isOnlyThere ? 'only in this user namespace, which is not enough' : 'no',
    enables: 'following a fork (UFFD_FEATURE_EVENT_FORK); userfaultfd(2) for kernel faults',
    remedy: has
      ? undefined
      : confinement.userNamespace
        ? 'run outside of this user namespace'
        : 'run as root, or grant the capability',
  }
}

function pagemapFact(): HostFact {
  const error = scanError()
  return {
    id: 'pagemap-scan',
    title: 'PAGEMAP_SCAN',
    status: error === undefined ? 'ok' : 'missing',
    found: error ?? 'works',
    enables: 'finding written pages, with WP_ASYNC',
    remedy: error === undefined ? undefined : 'Linux 6.7 or later, and /proc',
  }
}

function scanError(): string | undefined {
  const region = MemoryRegion.create({ kind: 'anon', lengthBytes: 64 * 1024 })
  try {
    region.scan({ all: ['WRITTEN'], out: new Float64Array(4) })
    return undefined
  } catch (error) {
    if (error instanceof PostcopyError) return error.code
    throw error
  } finally {
    region.close()
  }
}

function hugePageFact({ hugePages, hugePageGroup, confinement }: Privileges): HostFact {
  const pool = hugePages?.free ?? 0
  const grouped = Math.floor((hugePageGroup?.headroomBytes ?? Infinity) / 2 ** 21)
  const free = Math.min(pool, grouped)
  const where = confinement.userNamespace ? 'on the host: ' : ''
  return {
    id: 'huge-pages',
    title: '2 MiB pages',
    status: free > 0 ? 'ok' : 'missing',
    found:
      hugePages === undefined
        ? 'not offered by this kernel'
        : `${pool} of ${hugePages.total} free (${formatByteSize(pool * 2 ** 21)})${
            hugePageGroup === undefined ? '' : `; ${describeLimit(hugePageGroup)}`
          }`,
    enables: '--memory hugetlb',
    remedy:
      free > 0
        ? undefined
        : pool > 0 && hugePageGroup !== undefined
          ? `${where}raise ${hugePageGroup.path}`
          : `${where}sysctl -w vm.nr_hugepages=N, N = half the MiB of the guest`,
  }
}

function memoryFacts(privileges: Privileges): HostFact[] {
  const { memoryAvailableBytes, memoryGroup, memlockBytes } = privileges
  const { maxMapCount, transparentHugePages: thp } = privileges
  const bytes = (value: number | undefined) =>
    value === undefined ? 'unknown' : value === Infinity ? 'unlimited' : formatByteSize(value)
  const fact = (id: string, title: string, found: string, enables: string): HostFact => ({
    id,
    title,
    status: 'ok',
    found,
    enables,
  })
  return [
    fact('memory', 'Memory available', bytes(memoryAvailableBytes), 'RAM of guests'),
    fact(
      'memory-group',
      'Memory left in the control group',
      memoryGroup === undefined ? 'unlimited' : describeLimit(memoryGroup),
      'RAM of guests; above it the kernel kills the process',
    ),
    fact(
      'thp',
      'Transparent huge pages',
      `private memory ${thp.anon ?? 'unknown'}, shared memory ${thp.shmem ?? 'unknown'}`,
      'faster memory; a destination turns them off until all pages are received',
    ),
    fact('memlock', 'RLIMIT_MEMLOCK', bytes(memlockBytes), 'locking guest RAM in memory'),
    fact(
      'max-map-count',
      'vm.max_map_count',
      String(maxMapCount ?? 'unknown'),
      'mappings: unregistering part of one splits it',
    ),
  ]
}

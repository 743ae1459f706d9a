/** The kernel and machine on which the experiments run. */
import { existsSync, readFileSync } from 'node:fs'
import { cpus, freemem, release, totalmem, version } from 'node:os'
import { gunzipSync } from 'node:zlib'
import { type FeatureName, type Privileges, readPrivileges } from '../kernel/index.js'

/** Identifies a host, to compare two reports. */
export interface Fingerprint {
  kernel: string
  build: string
  architecture: string
  cpu: string
  cpus: number
  memoryMiB: number
  node: string
  user: string
  capabilities: string[]
  /** The result of each userfaultfd open method. */
  openMethods: Record<string, string>
  features: FeatureName[]
  unprivilegedUserfaultfd: string
  transparentHugePages: string
  hugePages: string
  swap: string
  ksm: string
  cgroup: string
  /** Relevant options, if the kernel shows its configuration. */
  config: Record<string, string>
}

/** The facts that decide whether an experiment can run. */
export interface Host {
  fingerprint: Fingerprint
  root: boolean
  kernelFaults: boolean
  anyOpenMethod: boolean
  features: ReadonlySet<FeatureName>
  hugePagesFree: number
  memoryAvailableMiB: number
}

const configNames = [
  'USERFAULTFD',
  'HAVE_ARCH_USERFAULTFD_WP',
  'HAVE_ARCH_USERFAULTFD_MINOR',
  'PTE_MARKER_UFFD_WP',
  'MEM_SOFT_DIRTY',
  'MEMORY_FAILURE',
  'TRANSPARENT_HUGEPAGE',
  'HUGETLBFS',
  'KSM',
  'PER_VMA_LOCK',
  'PREEMPT',
  'PREEMPT_VOLUNTARY',
  'HZ',
]

/** @param hide - features to treat as absent, as on an older kernel */
export function readHost(hide: readonly FeatureName[] = []): Host {
  const privileges = readPrivileges()
  const full = privileges.openMethods.find(({ error, userModeOnly }) => !error && !userModeOnly)
  const any = full ?? privileges.openMethods.find(({ error }) => error === undefined)
  const features = new Set([...(any?.available ?? [])].filter((name) => !hide.includes(name)))
  return {
    fingerprint: fingerprintOf(privileges, [...features]),
    root: privileges.uid === 0 && privileges.capabilities.has('SYS_ADMIN'),
    kernelFaults: full !== undefined,
    anyOpenMethod: any !== undefined,
    features,
    hugePagesFree: privileges.hugePages?.free ?? 0,
    memoryAvailableMiB: (privileges.memoryAvailableBytes ?? freemem()) / 2 ** 20,
  }
}

function fingerprintOf(privileges: Privileges, features: FeatureName[]): Fingerprint {
  const { uid, capabilities, openMethods, transparentHugePages: thp, hugePages } = privileges
  return {
    kernel: release(),
    build: version(),
    architecture: process.arch,
    cpu: cpus()[0]?.model ?? 'unknown',
    cpus: cpus().length,
    memoryMiB: Math.round(totalmem() / 2 ** 20),
    node: process.version,
    user: uid === 0 ? 'root' : `uid ${uid}`,
    capabilities: [...capabilities],
    openMethods: Object.fromEntries(
      openMethods.map(({ method, userModeOnly, error }) => [
        `${method}${userModeOnly ? ', user-mode only' : ''}`,
        error ?? 'opens',
      ]),
    ),
    features,
    unprivilegedUserfaultfd: String(privileges.unprivilegedUserfaultfd ?? 'absent'),
    transparentHugePages: `private ${thp.anon ?? 'absent'}, shared ${thp.shmem ?? 'absent'}`,
    hugePages: hugePages === undefined ? 'absent' : `${hugePages.free} of ${hugePages.total} free`,
    swap: (text('/proc/swaps') ?? '').trim().split('\n').slice(1).join('; ') || 'none',
    ksm: text('/sys/kernel/mm/ksm/run')?.trim() ?? 'absent',
    cgroup: existsSync('/sys/fs/cgroup/cgroup.controllers') ? 'v2' : 'v1',
    config: kernelConfig(),
  }
}

function kernelConfig(): Record<string, string> {
  const config = readConfig()
  if (config === undefined) return {}
  return Object.fromEntries(
    configNames.map((name) => [
      name,
      new RegExp(`^CONFIG_${name}=(.*)$`, 'm').exec(config)?.[1] ?? 'n',
    ]),
  )
}

function readConfig(): string | undefined {
  try {
    return gunzipSync(readFileSync('/proc/config.gz')).toString()
  } catch {
    return text(`/boot/config-${release()}`)
  }
}

function text(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return undefined
  }
}

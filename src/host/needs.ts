/** Checks whether a host has what an experiment needs. */
import { constants, existsSync, realpathSync, statSync } from 'node:fs'
import { dirname } from 'node:path'
import { fileURLToPath } from 'node:url'
import { featureSince } from '../kernel/internal.js'
import type { FeatureName } from '../kernel/index.js'
import type { Host } from './host.js'

/** What an experiment needs from the host. A missing need gives the row "not possible here". */
export interface Needs {
  root?: boolean
  /** Other users can run node and this installation, as children of the experiment do. */
  otherUsers?: boolean
  /** Faults inside the kernel, not only those of user code. */
  kernelFaults?: boolean
  features?: readonly FeatureName[]
  /** Such as `6.7`, for functions without a feature bit. */
  minimumKernel?: string
  /** 2 MiB pages, lent for the duration of the experiment if that is allowed. */
  hugePages?: number
  /** 2 MiB pages that only a part of the experiment needs; lent if that is allowed. */
  optionalHugePages?: number
  /** Files that must exist, such as `/sys/kernel/mm/ksm/run`. */
  files?: readonly string[]
  /** Commands that must be on the PATH. */
  commands?: readonly string[]
  /** MiB of memory that must be available. */
  memoryMiB?: number
  /** Number of processors. */
  cpus?: number
  /** A userfaultfd of any kind; default true. */
  userfaultfd?: boolean
}

/** A need that the host does not meet. */
export interface Missing {
  need: keyof Needs
  /** Includes a remedy if there is one. */
  reason: string
}

/** The first need that is not met; `undefined` if all are. */
export function missingFor(needs: Needs, host: Host): Missing | undefined {
  for (const [need, check] of Object.entries(checks) as [keyof Needs, Check][]) {
    const reason = check(needs, host)
    if (reason !== undefined) return { need, reason }
  }
  return undefined
}

type Check = (needs: Needs, host: Host) => string | undefined

const checks: Readonly<Partial<Record<keyof Needs, Check>>> = {
  minimumKernel: ({ minimumKernel }, { fingerprint: { kernel } }) =>
    minimumKernel !== undefined && isOlder(kernel, minimumKernel)
      ? `needs Linux ${minimumKernel}, this is ${kernel}`
      : undefined,
  userfaultfd: ({ userfaultfd }, { anyOpenMethod }) =>
    userfaultfd !== false && !anyOpenMethod
      ? 'needs a userfaultfd, and none opens: see postcopy doctor'
      : undefined,
  features: ({ features = [] }, host) => {
    const lacking = features.filter((name) => !host.features.has(name))
    return lacking.length === 0
      ? undefined
      : `needs ${lacking.map((name) => `UFFD_FEATURE_${name} (Linux ${featureSince(name)})`).join(', ')}`
  },
  root: ({ root }, host) => (root === true && !host.root ? 'needs root' : undefined),
  otherUsers: ({ otherUsers }) => {
    const closed = otherUsers === true ? closedToOthers() : undefined
    return closed === undefined
      ? undefined
      : `needs other users to be able to run this, and ${closed} is closed to them (chmod o+rX)`
  },
  kernelFaults: ({ kernelFaults }, host) =>
    kernelFaults === true && !host.kernelFaults
      ? 'needs to handle faults of the kernel: root, /dev/userfaultfd, or vm.unprivileged_userfaultfd=1'
      : undefined,
  hugePages: ({ hugePages = 0 }, { hugePagesFree, root }) =>
    hugePages > hugePagesFree && !root
      ? `needs ${hugePages} free 2 MiB pages, there are ${hugePagesFree} (sysctl vm.nr_hugepages)`
      : undefined,
  files: ({ files = [] }) => {
    const lacking = files.filter((path) => !existsSync(path))
    return lacking.length === 0 ? undefined : `needs ${lacking.join(', ')}`
  },
  commands: ({ commands = [] }) => {
    const lacking = commands.filter((name) => !onPath(name))
    return lacking.length === 0 ? undefined : `needs the command ${lacking.join(', ')}`
  },
  memoryMiB: ({ memoryMiB = 0 }, { memoryAvailableMiB }) =>
    memoryMiB > memoryAvailableMiB
      ? `needs ${memoryMiB} MiB of memory, ${Math.round(memoryAvailableMiB)} are available`
      : undefined,
  cpus: ({ cpus = 1 }, { fingerprint }) =>
    cpus > fingerprint.cpus ? `needs ${cpus} processors, there are ${fingerprint.cpus}` : undefined,
}

/** A file or parent folder whose mode keeps other users from running node and this installation. */
export function closedToOthers(
  files: readonly string[] = [process.execPath, fileURLToPath(import.meta.url)],
): string | undefined {
  return files.map(closedAbove).find((closed) => closed !== undefined)
}

function closedAbove(file: string): string | undefined {
  const path = realpathSync(file)
  if ((statSync(path).mode & constants.S_IROTH) === 0) return path
  for (let below = path, folder = dirname(path); folder !== below; folder = dirname(folder)) {
    if ((statSync(folder).mode & constants.S_IXOTH) === 0) return folder
    below = folder
  }
  return undefined
}

function onPath(command: string): boolean {
  return (process.env['PATH'] ?? '').split(':').some((folder) => existsSync(`${folder}/${command}`))
}

/** Whether version `a` (`6.18.44-fc`) comes before `b` (`6.8`); only two numbers count. */
export function isOlder(a: string, b: string): boolean {
  const [majorA = 0, minorA = 0] = a.split(/[.-]/).map(Number)
  const [majorB = 0, minorB = 0] = b.split(/[.-]/).map(Number)
  return majorA === majorB ? minorA < minorB : majorA < majorB
}

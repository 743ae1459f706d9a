/**
 * Limits of the control groups (version 1 or 2) that this process is in: its own, and those above it
 * as far as this process sees them.
 */
import { join } from 'node:path'
import { formatByteSize } from '../units.js'
import { fieldOf, readNumber, readText } from './proc.js'

export interface GroupLimit {
  /** The file that sets the limit. */
  readonly path: string
  readonly limitBytes: number
  /** Without page cache that the kernel reclaims first. */
  readonly usedBytes: number
  /** The limit less what is used, not below 0. */
  readonly headroomBytes: number
}

/** Names of the files of a limit, and of what counts against it. */
interface Files {
  readonly limit: string
  readonly used: string
  /** The field of `memory.stat` with bytes of `used` that are reclaimed before the limit is enforced. */
  readonly reclaimable?: string
}

interface Controller {
  readonly name: string
  readonly v1: readonly Files[]
  readonly v2: readonly Files[]
}

const memory: Controller = {
  name: 'memory',
  v1: [
    {
      limit: 'memory.limit_in_bytes',
      used: 'memory.usage_in_bytes',
      reclaimable: 'total_inactive_file',
    },
  ],
  v2: [{ limit: 'memory.max', used: 'memory.current', reclaimable: 'inactive_file' }],
}

/** A page counts as used from its first touch; as reserved from mmap(2) on. */
const hugetlb: Controller = {
  name: 'hugetlb',
  v1: [
    { limit: 'hugetlb.2MB.limit_in_bytes', used: 'hugetlb.2MB.usage_in_bytes' },
    { limit: 'hugetlb.2MB.limit_in_bytes', used: 'hugetlb.2MB.rsvd.usage_in_bytes' },
    { limit: 'hugetlb.2MB.rsvd.limit_in_bytes', used: 'hugetlb.2MB.rsvd.usage_in_bytes' },
  ],
  v2: [
    { limit: 'hugetlb.2MB.max', used: 'hugetlb.2MB.current' },
    // What is reserved will be touched: then it counts against this limit, too.
    { limit: 'hugetlb.2MB.max', used: 'hugetlb.2MB.rsvd.current' },
    { limit: 'hugetlb.2MB.rsvd.max', used: 'hugetlb.2MB.rsvd.current' },
  ],
}

/** The limit of memory that leaves least; undefined without one. */
export function memoryLimit(): GroupLimit | undefined {
  return tightest(memory)
}

/** The limit of 2 MiB pages that leaves least; undefined without one. */
export function hugePageLimit(): GroupLimit | undefined {
  return tightest(hugetlb)
}

/** For messages. */
export function describeLimit({ path, limitBytes, usedBytes, headroomBytes }: GroupLimit): string {
  return `${formatByteSize(headroomBytes)} left of ${formatByteSize(limitBytes)} (${path}; ${formatByteSize(usedBytes)} in use or reserved)`
}

function tightest(controller: Controller): GroupLimit | undefined {
  let least: GroupLimit | undefined
  for (const { folder, version } of foldersOf(controller.name)) {
    for (const files of controller[version]) {
      const limit = limitIn(folder, files)
      if (limit === undefined) continue
      if (least === undefined || limit.headroomBytes < least.headroomBytes) least = limit
    }
  }
  return least
}

function limitIn(folder: string, files: Files): GroupLimit | undefined {
  const path = join(folder, files.limit)
  const limitBytes = readNumber(path)
  const countedBytes = readNumber(join(folder, files.used))
  // "max" is not a number; version 1 writes "no limit" as one near 2^63.
  if (limitBytes === undefined || Number.isNaN(limitBytes) || limitBytes > 2 ** 60) return undefined
  if (countedBytes === undefined) return undefined
  const usedBytes = Math.max(0, countedBytes - reclaimableIn(folder, files))
  return { path, limitBytes, usedBytes, headroomBytes: Math.max(0, limitBytes - usedBytes) }
}

function reclaimableIn(folder: string, { reclaimable }: Files): number {
  if (reclaimable === undefined) return 0
  return Number(
    fieldOf(join(folder, 'memory.stat'), new RegExp(`^${reclaimable} (\\d+)$`, 'm')) ?? 0,
  )
}

interface GroupFolder {
  readonly folder: string
  readonly version: 'v1' | 'v2'
}

/** The folders of this process' group and of those above it, where they are mounted. */
function foldersOf(controller: string): GroupFolder[] {
  const groups = readText('/proc/self/cgroup') ?? ''
  return (readText('/proc/self/mountinfo') ?? '').split('\n').flatMap((line) => {
    const [before = '', after = ''] = line.split(' - ')
    const [, , , root = '', mountPoint = ''] = before.split(' ')
    const [type, , options = ''] = after.split(' ')
    const version = type === 'cgroup2' ? 'v2' : 'v1'
    if (version === 'v1' && (type !== 'cgroup' || !options.split(',').includes(controller)))
      return []
    const group = groupOf(groups, version === 'v2' ? '' : controller)
    return group === undefined
      ? []
      : upwards(mountPoint, below(root, group)).map((folder) => ({ folder, version }))
  })
}

/** @param controller - empty: the group of version 2 */
function groupOf(groups: string, controller: string): string | undefined {
  for (const line of groups.split('\n')) {
    const [, controllers = '', ...path] = line.split(':')
    if (line !== '' && controllers.split(',').includes(controller)) return path.join(':')
  }
  return undefined
}

/** A group's path below the group that a mount shows at its root. */
function below(root: string, group: string): string {
  if (root === '/') return group
  return group === root || group.startsWith(`${root}/`) ? group.slice(root.length) : '/'
}

function upwards(mountPoint: string, path: string): string[] {
  // A group outside of this namespace is shown as "/..": its files are not to be seen.
  const names = path.split('/').filter((name) => name !== '' && name !== '..')
  return Array.from({ length: names.length + 1 }, (_, left) =>
    join(mountPoint, ...names.slice(0, names.length - left)),
  )
}

/**
 * Limits of the control groups (version 1 or 2) of this process: its own group, and its ancestors
 * as far as they are visible.
 */
import { join } from 'node:path'
import { formatByteSize } from '../units.js'
import { fieldOf, readNumber, readText } from './proc.js'

export interface GroupLimit {
  /** The file that sets the limit. */
  readonly path: string
  readonly limitBytes: number
  /** Excludes page cache that the kernel reclaims before it enforces the limit. */
  readonly usedBytes: number
  /** The limit minus the used bytes, at least 0. */
  readonly headroomBytes: number
}

/** Names of the files with a limit, and with the usage that counts against it. */
interface Files {
  readonly limit: string
  readonly used: string
  /** The field of `memory.stat` with the part of `used` that the kernel reclaims first. */
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

/** A huge page counts as used from its first touch, and as reserved from mmap(2) on. */
const hugetlb: Controller = {
  name: 'hugetlb',
  v1: [
    { limit: 'hugetlb.2MB.limit_in_bytes', used: 'hugetlb.2MB.usage_in_bytes' },
    { limit: 'hugetlb.2MB.limit_in_bytes', used: 'hugetlb.2MB.rsvd.usage_in_bytes' },
    { limit: 'hugetlb.2MB.rsvd.limit_in_bytes', used: 'hugetlb.2MB.rsvd.usage_in_bytes' },
  ],
  v2: [
    { limit: 'hugetlb.2MB.max', used: 'hugetlb.2MB.current' },
    // Reserved pages will count against this limit too, once they are touched.
    { limit: 'hugetlb.2MB.max', used: 'hugetlb.2MB.rsvd.current' },
    { limit: 'hugetlb.2MB.rsvd.max', used: 'hugetlb.2MB.rsvd.current' },
  ],
}

/** The memory limit with the least headroom; undefined if there is none. */
export function memoryLimit(): GroupLimit | undefined {
  return tightest(memory)
}

/** The limit of 2 MiB pages with the least headroom; undefined if there is none. */
export function hugePageLimit(): GroupLimit | undefined {
  return tightest(hugetlb)
}

/** Describes a limit for messages. */
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
  // No limit: version 2 writes "max", version 1 a number near 2^63.
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

/** The folders of the group of this process and of its ancestors, in each hierarchy. */
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

/** @param controller - empty for the group of version 2 */
function groupOf(groups: string, controller: string): string | undefined {
  for (const line of groups.split('\n')) {
    const [, controllers = '', ...path] = line.split(':')
    if (line !== '' && controllers.split(',').includes(controller)) return path.join(':')
  }
  return undefined
}

/** The path of `group` relative to `root`, the group at the root of the mount. */
function below(root: string, group: string): string {
  if (root === '/') return group
  return group === root || group.startsWith(`${root}/`) ? group.slice(root.length) : '/'
}

function upwards(mountPoint: string, path: string): string[] {
  // A group outside this cgroup namespace appears as "/..": its files are not visible.
  const names = path.split('/').filter((name) => name !== '' && name !== '..')
  return Array.from({ length: names.length + 1 }, (_, left) =>
    join(mountPoint, ...names.slice(0, names.length - left)),
  )
}

/** Creates control groups with limits, version 1 or 2, whichever this host has. Needs root. */
import { existsSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { PostcopyError } from '../errors.js'

export interface GroupLimits {
  /** memory.max, bytes. */
  memoryBytes?: number
  /** hugetlb.2MB.max, bytes: limits touched pages. */
  hugePageBytes?: number
  /** hugetlb.2MB.rsvd.max, bytes: limits mapped pages. */
  reservedHugePageBytes?: number
}

/** A group: one folder in each hierarchy that has one of its limits. */
export interface ControlGroup {
  readonly paths: readonly string[]
  /** Write a process id to each of them, or `0` for the writing process. */
  readonly procsPaths: readonly string[]
}

type Limit = keyof GroupLimits

const files: Readonly<Record<Limit, { controller: string; v1: string; v2: string }>> = {
  memoryBytes: { controller: 'memory', v1: 'memory.limit_in_bytes', v2: 'memory.max' },
  hugePageBytes: {
    controller: 'hugetlb',
    v1: 'hugetlb.2MB.limit_in_bytes',
    v2: 'hugetlb.2MB.max',
  },
  reservedHugePageBytes: {
    controller: 'hugetlb',
    v1: 'hugetlb.2MB.rsvd.limit_in_bytes',
    v2: 'hugetlb.2MB.rsvd.max',
  },
}

/**
 * Makes a group below the root of each hierarchy that it needs.
 *
 * @param defer - gets a function that undoes each change
 * @throws PostcopyError `ERR_CONTROL_GROUP` if no hierarchy has the controller
 */
export function createControlGroup(
  name: string,
  limits: GroupLimits,
  remove: (path: string) => void,
  defer: (undo: () => void) => void,
): ControlGroup {
  const paths = new Set<string>()
  for (const limit of Object.keys(files) as Limit[]) {
    const bytes = limits[limit]
    if (bytes === undefined) continue
    const { controller, v1, v2 } = files[limit]
    const { mountPoint, version } = hierarchyOf(controller)
    if (version === 2) enable(mountPoint, controller, defer)
    const path = join(mountPoint, name)
    if (!paths.has(path)) {
      mkdirSync(path)
      paths.add(path)
      defer(() => {
        remove(path)
      })
    }
    writeFileSync(join(path, version === 1 ? v1 : v2), String(bytes))
  }
  return { paths: [...paths], procsPaths: [...paths].map((path) => join(path, 'cgroup.procs')) }
}

function hierarchyOf(controller: string): { mountPoint: string; version: 1 | 2 } {
  const mounts = readFileSync('/proc/self/mounts', 'utf8').split('\n')
  for (const line of mounts) {
    const [, mountPoint = '', type = '', options = ''] = line.split(' ')
    if (type === 'cgroup' && options.split(',').includes(controller)) {
      return { mountPoint, version: 1 }
    }
    if (
      type === 'cgroup2' &&
      wordsOf(join(mountPoint, 'cgroup.controllers')).includes(controller)
    ) {
      return { mountPoint, version: 2 }
    }
  }
  throw new PostcopyError(
    'ERR_CONTROL_GROUP',
    `no control group hierarchy has the controller ${controller}`,
  )
}

/** Enables the controller for groups below the root. */
function enable(root: string, controller: string, defer: (undo: () => void) => void): void {
  const path = join(root, 'cgroup.subtree_control')
  if (wordsOf(path).includes(controller)) return
  writeFileSync(path, `+${controller}`)
  defer(() => {
    const isUsed = readdirSync(root, { withFileTypes: true }).some((entry) => entry.isDirectory())
    if (!isUsed) writeFileSync(path, `-${controller}`)
  })
}

function wordsOf(path: string): string[] {
  return existsSync(path) ? readFileSync(path, 'utf8').trim().split(/\s+/) : []
}

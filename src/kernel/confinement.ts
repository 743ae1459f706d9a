/** What restricts this process besides its privileges: seccomp, a user namespace, an old kernel. */
import { existsSync } from 'node:fs'
import { release } from 'node:os'
import { fieldOf, readText } from './proc.js'

export interface Confinement {
  /** `Seccomp: 2` in /proc/self/status: a filter may fail system calls. */
  readonly seccompFilter: boolean
  /**
   * This process is not in the initial user namespace: its capabilities do not count for
   * userfaultfd or for settings of the host.
   */
  readonly userNamespace: boolean
  /** Its user id outside its user namespace; undefined if `uid_map` does not map it. */
  readonly hostUid: number | undefined
  /** /dev/userfaultfd exists, so the kernel has userfaultfd, even if the device does not open. */
  readonly deviceNode: boolean
  /** Major and minor version of the kernel. */
  readonly kernel: readonly [number, number]
}

export function readConfinement(): Confinement {
  const map = readText('/proc/self/uid_map') ?? ''
  const [, major = '0', minor = '0'] = /^(\d+)\.(\d+)/.exec(release()) ?? []
  return {
    seccompFilter: fieldOf('/proc/self/status', /^Seccomp:\s+(\d)/m) === '2',
    userNamespace: isNamespace(map),
    hostUid: hostUidOf(map, process.geteuid?.() ?? -1),
    deviceNode: existsSync('/dev/userfaultfd'),
    kernel: [Number(major), Number(minor)],
  }
}

/** The initial namespace maps every id to itself. */
function isNamespace(map: string): boolean {
  return map !== '' && !/^\s*0\s+0\s+4294967295\s*$/.test(map)
}

/** Fields of a line of `uid_map`: first id inside, first id outside, number of ids. */
function hostUidOf(map: string, uid: number): number | undefined {
  for (const line of map.trim().split('\n')) {
    const [inside = NaN, outside = NaN, count = 0] = line.trim().split(/\s+/).map(Number)
    if (uid >= inside && uid < inside + count) return outside + uid - inside
  }
  return undefined
}

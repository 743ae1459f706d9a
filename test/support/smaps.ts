import { readFileSync } from 'node:fs'
import type { MemoryRegion } from '../../src/kernel/index.js'

/**
 * What proc_pid_smaps(5) says of the mapping in which a region begins; the kernel may have merged
 * it with its neighbours.
 */
export function smapsOf(region: MemoryRegion, field: string): string {
  const mapping = readFileSync('/proc/self/smaps', 'utf8')
    .split(/^(?=[0-9a-f]+-[0-9a-f]+ )/m)
    .find((one) => {
      const [, start = '', end = ''] = /^([0-9a-f]+)-([0-9a-f]+)/.exec(one) ?? []
      return parseInt(start, 16) <= region.address && region.address < parseInt(end, 16)
    })
  return new RegExp(`^${field}: *(.*)$`, 'm').exec(mapping ?? '')?.[1] ?? ''
}

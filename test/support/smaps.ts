import { readFileSync } from 'node:fs'
import type { MemoryRegion } from '../../src/kernel/index.js'

/**
 * A field of proc_pid_smaps(5) for the mapping at the start of a region. The kernel may have
 * merged this mapping with its neighbours.
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

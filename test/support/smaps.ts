import { readFileSync } from 'node:fs'
import type { MemoryRegion } from '../../src/kernel/index.js'

/** What proc_pid_smaps(5) says of a region's first mapping: the flags it was given, how much is huge. */
export function smapsOf(region: MemoryRegion, field: string): string {
  const smaps = readFileSync('/proc/self/smaps', 'utf8')
  const mapping = smaps.slice(smaps.indexOf(`\n${region.address.toString(16)}-`))
  return new RegExp(`^${field}: *(.*)$`, 'm').exec(mapping)?.[1] ?? ''
}

/** Warns of a control group that grants less memory than the RAM of a machine. */
import { memoryLimit } from '../kernel/control-groups.js'
import { formatByteSize } from '../units.js'
import type { MigratableMachine } from './machine.js'

const warnedOf = new WeakSet<MigratableMachine>()

/**
 * Emits a warning of the process with the code `POSTCOPY_MEMORY_LIMIT`, once for each machine: RAM that
 * is not there yet does not fit in. Huge pages have a limit of their own, and are refused.
 */
export function warnOfMemoryLimit(machine: MigratableMachine): void {
  if (warnedOf.has(machine)) return
  const limit = memoryLimit()
  const ramBytes = machine.blocks
    .filter(({ region }) => region.kind === 'anon' || region.kind === 'memfd')
    .reduce((sum, { lengthBytes }) => sum + lengthBytes, 0)
  if (limit === undefined || limit.headroomBytes >= ramBytes) return
  warnedOf.add(machine)
  const [ram, left, all] = [ramBytes, limit.headroomBytes, limit.limitBytes].map(formatByteSize)
  process.emitWarning(
    `the guest's RAM has ${ram}, and the control group has ${left} left of ${all} (${limit.path}); beyond it the kernel ends the process`,
    { code: 'POSTCOPY_MEMORY_LIMIT' },
  )
}

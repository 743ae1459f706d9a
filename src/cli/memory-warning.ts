/** Says before a guest starts that its control group does not have its RAM. */
import { readPrivileges } from '../kernel/index.js'
import { formatByteSize } from '../units.js'

/** A line for stderr; undefined where there is room, or no limit. */
export function memoryWarning(ramBytes: number): string | undefined {
  const limit = readPrivileges().memoryGroup
  if (limit === undefined || limit.headroomBytes >= ramBytes) return undefined
  const left = formatByteSize(limit.headroomBytes)
  return `warning: the guest's RAM has ${formatByteSize(ramBytes)}, and the control group has ${left} left of ${formatByteSize(limit.limitBytes)} (${limit.path}); beyond it the kernel ends the process`
}

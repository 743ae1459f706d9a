import os from 'node:os'

/**
 * Raises the priority of this thread above the vCPUs, which wait for its work. On Linux the nice
 * value belongs to the thread. Lowering it needs CAP_SYS_NICE; without it the priority stays.
 *
 * @see setpriority(2), "C library/kernel differences"
 */
export function raiseThreadPriority(): void {
  try {
    os.setPriority(0, os.constants.priority.PRIORITY_ABOVE_NORMAL)
  } catch {
    // EACCES: no privilege. The result is the same, but slower while vCPUs are busy.
  }
}

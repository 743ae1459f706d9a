import os from 'node:os'

/**
 * Lets this thread go before the vCPUs that wait for what it does. Linux gives each thread a
 * nice value of its own; raising it takes CAP_SYS_NICE, and without it all stay alike.
 *
 * @see setpriority(2), "C library/kernel differences"
 */
export function raiseThreadPriority(): void {
  try {
    os.setPriority(0, os.constants.priority.PRIORITY_ABOVE_NORMAL)
  } catch {
    // EACCES: an ordinary user; slower beside busy vCPUs, and as right.
  }
}

import { output } from './output.js'

/** Node's own status for a program that waits for something that cannot happen. */
const UNSETTLED = 13

/** Makes the status of this process an error if it ends before {@link endProcess}. */
export function failUnlessEnded(): void {
  process.exitCode = UNSETTLED
}

/**
 * Ends the process after all output is written, even if threads are parked on pages that will never
 * arrive.
 *
 * @param status - of the command
 */
export async function endProcess(status: number): Promise<never> {
  process.exit(await output.finish(status))
}

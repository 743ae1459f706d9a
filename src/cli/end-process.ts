import { output } from './output.js'

/**
 * Ends the process when all that it printed is written. Threads that are parked on pages which will
 * never come must not keep it.
 *
 * @param status - of the command
 */
export async function endProcess(status: number): Promise<never> {
  process.exit(await output.finish(status))
}

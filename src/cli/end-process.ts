import { output } from './output.js'

/**
 * Ends the process after all output is written, even if threads are parked on pages that will never
 * arrive.
 *
 * @param status - of the command
 */
export async function endProcess(status: number): Promise<never> {
  process.exit(await output.finish(status))
}

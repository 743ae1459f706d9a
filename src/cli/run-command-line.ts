import { CommanderError } from 'commander'
import { reportFailure } from './failure.js'
import { createProgram } from './program.js'

/**
 * Runs a command line in this process, and does not end the process.
 *
 * @param words - the command and its arguments, without the name of the program
 * @returns the exit status
 */
export async function runCommandLine(words: readonly string[]): Promise<number> {
  let status = 0
  try {
    const program = await createProgram(words, (given) => {
      status = given
    })
    await program.parseAsync(words, { from: 'user' })
  } catch (error) {
    reportFailure(error)
    return error instanceof CommanderError ? error.exitCode : 1
  }
  return status
}

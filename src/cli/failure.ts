/** Prints errors of the command line: one line with the code, without a stack. */
import { CommanderError } from 'commander'
import { errorToRecord } from '../errors.js'
import { output } from './output.js'

/** The code of a usage error; every other error has its own. */
export const USAGE_CODE = 'ERR_USAGE'

/** Prints to stderr; `POSTCOPY_DEBUG=1` in the environment adds the stack. */
export function reportFailure(error: unknown): void {
  if (error instanceof CommanderError) return // commander has printed it
  const { code, message } = errorToRecord(error)
  output.note(message.startsWith(`${code}:`) ? message : `${message} [${code}]`)
  const isDebugging = (process.env['POSTCOPY_DEBUG'] ?? '') !== ''
  if (isDebugging && error instanceof Error) output.say(error.stack ?? '')
}

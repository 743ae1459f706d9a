/** How the command line says that something went wrong: one line with the code, no stack. */
import { CommanderError } from 'commander'
import { errorToRecord } from '../errors.js'
import { output } from './output.js'

/** A usage error's code; everything else has its own. */
export const USAGE_CODE = 'ERR_USAGE'

/** Prints to stderr; `POSTCOPY_DEBUG=1` in the environment adds the stack. */
export function reportFailure(error: unknown): void {
  if (error instanceof CommanderError) return // commander has said it
  const { code, message } = errorToRecord(error)
  output.note(message.startsWith(`${code}:`) ? message : `${message} [${code}]`)
  const isDebugging = (process.env['POSTCOPY_DEBUG'] ?? '') !== ''
  if (isDebugging && error instanceof Error) output.say(error.stack ?? '')
}

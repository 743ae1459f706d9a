/** How the command line says that something went wrong: one line with the code, no stack. */
import { CommanderError } from 'commander'
import { errorToRecord } from '../errors.js'

/** A usage error's code; everything else has its own. */
export const USAGE_CODE = 'ERR_USAGE'

/** Prints to stderr; `POSTCOPY_DEBUG=1` in the environment adds the stack. */
export function reportFailure(error: unknown): void {
  if (error instanceof CommanderError) return // commander has said it
  const { code, message } = errorToRecord(error)
  const text = message.startsWith(`${code}:`) ? message : `${message} [${code}]`
  process.stderr.write(`postcopy: ${text}\n`)
  const isDebugging = (process.env['POSTCOPY_DEBUG'] ?? '') !== ''
  if (isDebugging && error instanceof Error) process.stderr.write(`${error.stack ?? ''}\n`)
}

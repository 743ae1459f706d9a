/** Turns the addon's `-errno` into errors, and rejects unknown options. */
import { getSystemErrorName } from 'node:util'
import { KernelError, PostcopyError } from '../errors.js'

/** `EPERM` for -1; `ERRNO_133` where this Node has no name. */
export function errnoName(errno: number): string {
  const name = getSystemErrorName(errno)
  return /^E[A-Z0-9]+$/.test(name) ? name : `ERRNO_${String(-errno)}`
}

/** Hint for the `ENOENT` of `attach`. */
export const NO_HANDLE_HINT =
  'its last handle was closed or garbage collected: keep a handle as long as the id is used'

/** The error for a negative result of `syscall`. */
export function kernelError(errno: number, syscall: string, args = '', hint?: string): KernelError {
  return new KernelError(errnoName(errno), errno, syscall, { args, hint })
}

/** Returns a count as it is, and throws for `-errno`. Only then are `args` and `hint` called. */
export function check(
  result: number,
  syscall: string,
  args: () => string,
  hint?: (code: string) => string | undefined,
): number {
  if (result >= 0) return result
  throw kernelError(result, syscall, args(), hint?.(errnoName(result)))
}

/** The error for any use after `close()`. */
export function closedError(what: string): PostcopyError {
  return new PostcopyError('ERR_CLOSED', `${what} was closed`)
}

/** Throws for an unknown option: otherwise a misspelt one would silently keep its default. */
export function checkOptions(options: object, known: readonly string[]): void {
  for (const key of Object.keys(options)) {
    if (!known.includes(key)) {
      throw new TypeError(`unknown option "${key}"; known: ${known.join(', ')}`)
    }
  }
}

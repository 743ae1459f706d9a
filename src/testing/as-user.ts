/** Runs programs with other credentials than ours. */
import type { CapabilityName } from '../kernel/index.js'
import { runProgram } from './run-program.js'
import type { ProgramEnd, ProgramOptions } from './run-program.js'

export interface AsUserOptions extends ProgramOptions {
  /** Default 65534, the user `nobody`. Use 0 to stay root and only drop capabilities. */
  uid?: number
  /** Capabilities to keep although the user is not root. Default none. */
  keep?: readonly CapabilityName[]
  /** Capabilities to take away although the user is root. Default none. */
  drop?: readonly CapabilityName[]
}

/**
 * Runs a program as an unprivileged user, by setpriv(1); needs root. Does not throw if the program
 * fails: its end is the result.
 */
export async function runAsUser(
  command: string,
  args: readonly string[],
  options: AsUserOptions = {},
): Promise<ProgramEnd> {
  const { uid = 65534, keep = [], drop = [], ...rest } = options
  return runProgram(['setpriv', ...credentialFlags(uid, keep, drop), command, ...args], rest)
}

function credentialFlags(
  uid: number,
  keep: readonly CapabilityName[],
  drop: readonly CapabilityName[],
): string[] {
  const list = (names: readonly CapabilityName[], sign: '+' | '-') =>
    names.map((name) => `${sign}${name.toLowerCase()}`).join(',')
  return [
    `--reuid=${uid}`,
    ...(uid === 0 ? [] : [`--regid=${uid}`, '--clear-groups']),
    ...(keep.length === 0
      ? []
      : [`--inh-caps=${list(keep, '+')}`, `--ambient-caps=${list(keep, '+')}`]),
    ...(drop.length === 0
      ? []
      : [`--inh-caps=${list(drop, '-')}`, `--bounding-set=${list(drop, '-')}`]),
  ]
}

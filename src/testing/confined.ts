/** Programs in what a container puts around them: a seccomp filter, a user namespace, a control group. */
import { fileURLToPath } from 'node:url'
import type { ControlGroup } from '../host/index.js'
import { runProgram } from './run-program.js'
import type { ProgramEnd, ProgramOptions } from './run-program.js'

/** System calls that the kernel refuses by a seccomp filter. */
export interface SeccompFilter {
  /** By their names, such as `userfaultfd`; those that the lab's addon knows. */
  readonly syscalls: readonly string[]
  /** The errno that they get. */
  readonly errno: 'EPERM' | 'ENOSYS' | 'EACCES'
}

export interface ConfinedOptions extends ProgramOptions {
  seccomp?: SeccompFilter
  /**
   * In a user namespace of its own, by unshare(1): `root` is user 0 there; `user` is not known there
   * by any name (65534), and has no capabilities.
   */
  userNamespace?: 'root' | 'user'
  /** A user id; by setpriv(1), needs root. Default: ours. */
  uid?: number
  /** See {@link HostChanges.controlGroup}. */
  group?: ControlGroup
}

/** No error for how the program ends: that is the result. */
export function runConfined(
  command: string,
  args: readonly string[],
  options: ConfinedOptions,
): Promise<ProgramEnd> {
  const { seccomp, userNamespace, uid, group, ...rest } = options
  return runProgram(
    [
      ...(group === undefined ? [] : joining(group)),
      ...(uid === undefined
        ? []
        : ['setpriv', `--reuid=${uid}`, `--regid=${uid}`, '--clear-groups']),
      ...(userNamespace === undefined ? [] : ['unshare', '--user']),
      ...(userNamespace === 'root' ? ['--map-root-user'] : []),
      ...(seccomp === undefined ? [] : filtering(seccomp)),
      command,
      ...args,
    ],
    rest,
  )
}

/** The shell joins, and becomes the program. */
function joining({ procsPaths }: ControlGroup): string[] {
  const join = procsPaths.map((_, index) => `echo $$ >"$${index + 1}" && `)
  const script = `${join.join('')}shift ${procsPaths.length} && exec "$@"`
  return ['sh', '-c', script, 'sh', ...procsPaths]
}

function filtering({ syscalls, errno }: SeccompFilter): string[] {
  const launcher = fileURLToPath(new URL('seccomp-exec.js', import.meta.url))
  return [process.execPath, launcher, errno, syscalls.join(',')]
}

/**
 * Confines programs as a container does: by a seccomp filter, a user namespace, a control group.
 */
import { fileURLToPath } from 'node:url'
import type { ControlGroup } from '../host/index.js'
import { runProgram } from './run-program.js'
import type { ProgramEnd, ProgramOptions } from './run-program.js'

/** System calls that the kernel refuses by a seccomp filter. */
export interface SeccompFilter {
  /** Names, such as `userfaultfd`, of the calls that the lab's addon knows. */
  readonly syscalls: readonly string[]
  /** The errno that the calls fail with. */
  readonly errno: 'EPERM' | 'ENOSYS' | 'EACCES'
}

export interface ConfinedOptions extends ProgramOptions {
  seccomp?: SeccompFilter
  /**
   * Run in a new user namespace, by unshare(1). `root` is user 0 there; `user` is not mapped there
   * (it appears as 65534), and has no capabilities.
   */
  userNamespace?: 'root' | 'user'
  /** A user id; by setpriv(1), needs root. Default: ours. */
  uid?: number
  /** See {@link HostChanges.controlGroup}. */
  group?: ControlGroup
}

/** Does not throw if the program fails: its end is the result. */
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

/** A shell that joins the group, and then executes the program. */
function joining({ procsPaths }: ControlGroup): string[] {
  const join = procsPaths.map((_, index) => `echo $$ >"$${index + 1}" && `)
  const script = `${join.join('')}shift ${procsPaths.length} && exec "$@"`
  return ['sh', '-c', script, 'sh', ...procsPaths]
}

function filtering({ syscalls, errno }: SeccompFilter): string[] {
  const launcher = fileURLToPath(new URL('seccomp-exec.js', import.meta.url))
  return [process.execPath, launcher, errno, syscalls.join(',')]
}

/** Suggests remedies if a userfaultfd does not open, from the errors of each open method. */
import type { Confinement } from './confinement.js'
import type { OpenMethod } from './native.js'

/** An open method, and the name of its errno; undefined: it opened. */
export interface OpenMethodAnswer {
  readonly method: OpenMethod
  readonly userModeOnly: boolean
  readonly error: string | undefined
}

/**
 * What would make an open method work; undefined if it works.
 *
 * @param answers - of all methods: together they tell a seccomp filter from missing privileges
 */
export function remedyFor(
  { method, userModeOnly, error }: OpenMethodAnswer,
  answers: readonly OpenMethodAnswer[],
  confinement: Confinement,
): string | undefined {
  if (error === undefined) return undefined
  if (method === 'device') return deviceRemedy(error, confinement)
  if (error === 'ENOSYS') return absenceRemedy(confinement)
  if (isRefusedByFilter(answers, confinement)) return filterRemedy(confinement)
  if (userModeOnly) return 'Linux 5.11 or later'
  return confinement.userNamespace
    ? 'on the host: sysctl -w vm.unprivileged_userfaultfd=1 (CAP_SYS_PTRACE of a user namespace does not count)'
    : 'sysctl -w vm.unprivileged_userfaultfd=1, or CAP_SYS_PTRACE'
}

/** The remedies for all open methods that fail, without duplicates. */
export function remediesFor(
  answers: readonly OpenMethodAnswer[],
  confinement: Confinement,
): string {
  return joinRemedies(answers.map((answer) => remedyFor(answer, answers, confinement)))
}

export function joinRemedies(remedies: readonly (string | undefined)[]): string {
  return [...new Set(remedies)].filter((remedy) => remedy !== undefined).join(', or ')
}

/** Since Linux 5.11 every user may make the user-mode-only call, so EPERM comes from a filter. */
function isRefusedByFilter(answers: readonly OpenMethodAnswer[], { kernel }: Confinement): boolean {
  const narrow = answers.find(({ method, userModeOnly }) => method === 'syscall' && userModeOnly)
  return narrow?.error === 'EPERM' && !isBefore(kernel, 5, 11)
}

function deviceRemedy(error: string, { kernel, userNamespace, hostUid }: Confinement): string {
  if (error === 'ENOENT') {
    return isBefore(kernel, 6, 1)
      ? 'Linux 6.1 or later, which has /dev/userfaultfd'
      : 'pass /dev/userfaultfd into the container (--device /dev/userfaultfd)'
  }
  if (error === 'EPERM') {
    return 'allow /dev/userfaultfd in the device list of the container (--device /dev/userfaultfd)'
  }
  return userNamespace
    ? `on the host: setfacl -m u:${hostUid ?? 'USER'}:rw /dev/userfaultfd`
    : 'setfacl -m u:USER:rw /dev/userfaultfd'
}

function absenceRemedy(confinement: Confinement): string {
  if (confinement.seccompFilter) return filterRemedy(confinement)
  return confinement.deviceNode
    ? 'removing the sandbox that hides userfaultfd(2) from this process: the kernel has it, because /dev/userfaultfd exists'
    : 'a kernel with CONFIG_USERFAULTFD'
}

function filterRemedy({ seccompFilter }: Confinement): string {
  return seccompFilter
    ? 'a seccomp profile that allows userfaultfd (a filter is active: Seccomp: 2 in /proc/self/status)'
    : 'a rule of the security module (SELinux, AppArmor) that allows userfaultfd'
}

function isBefore(
  [major, minor]: Confinement['kernel'],
  toMajor: number,
  toMinor: number,
): boolean {
  return major < toMajor || (major === toMajor && minor < toMinor)
}

/**
 * For integration tests that need a real kernel: skip by capability with a reason, change the host
 * for the length of a test, run as another user, under a seccomp filter, in a user namespace or a control group, have threads touch memory and tell, put a
 * network between two ends that can be cut, and make two hosts.
 *
 * @packageDocumentation
 */
export { missing, requires } from './requires.js'
export type { SkippableTest } from './requires.js'
export {
  availableHugePages,
  type ControlGroup,
  type GroupLimits,
  HostChanges,
  LabResponder,
  LabThread,
  type MemoryGroup,
  type Missing,
  type Needs,
  type ResponderOptions,
  step,
  type Step,
  type StepResult,
  type SweepOptions,
  type ThreadOptions,
} from '../host/index.js'
export { LinkProxy } from './link-proxy.js'
export type { LinkChange, LinkOptions } from './link-proxy.js'
export { TwoHosts } from './two-hosts.js'
export type { Host } from './host.js'
export { HostLink } from './host-link.js'
export { runAsUser } from './as-user.js'
export type { AsUserOptions } from './as-user.js'
export { runConfined } from './confined.js'
export type { ConfinedOptions, SeccompFilter } from './confined.js'
export type { ProgramEnd, ProgramOptions } from './run-program.js'

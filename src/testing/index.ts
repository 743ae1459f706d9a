/**
 * For integration tests that need a real kernel: skip tests by capability, with a reason; change
 * the host during a test; run programs as another user or confined; have threads touch memory and
 * report it; put a network that can be cut between two ends; create two hosts.
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

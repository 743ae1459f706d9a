/** The machine that this runs on: what it has, what can be changed for a while, raw system calls, native threads. */
export type { ControlGroup, GroupLimits } from './control-group.js'
export { availableHugePages, createMemoryGroup, HostChanges, sleepMs } from './host-changes.js'
export type { MemoryGroup } from './host-changes.js'
export { readHost } from './host.js'
export type { Fingerprint, Host } from './host.js'
export { labNative } from './native.js'
export type { RawArgument } from './native.js'
export { isOlder, missingFor } from './needs.js'
export type { Missing, Needs } from './needs.js'
export {
  addressOf,
  cString,
  Madv,
  MapFlag,
  must,
  outcomeName,
  peek,
  poke,
  Prot,
  syscall,
  syscallNumber,
} from './raw.js'
export { LabResponder, LabThread, step, threadState, userSignalCount } from './thread.js'
export type { ResponderOptions, Step, StepResult, SweepOptions, ThreadOptions } from './thread.js'

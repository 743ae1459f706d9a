/** The host: its facts, temporary changes to it, raw system calls, and native threads. */
export type { ControlGroup, GroupLimits } from './control-group.js'
export { availableHugePages, createMemoryGroup, HostChanges, sleepMs } from './host-changes.js'
export type { MemoryGroup } from './host-changes.js'
export { readHost } from './host.js'
export type { Fingerprint, Host } from './host.js'
export { PlacementCall, labNative } from './native.js'
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

/**
 * The kernel lab: write an experiment, export it, run it with `postcopy lab run ./file.js`.
 *
 * @packageDocumentation
 */
export { experiment } from './experiment.js'
export type {
  Expectation,
  Experiment,
  ExperimentDefinition,
  Needs,
  Observation,
  Observations,
} from './experiment.js'
export { anything, atLeast, atMost, between, oneOf } from './match.js'
export type { Match } from './match.js'
export type { Lab } from './lab.js'
export { memoryKinds, selftestKinds } from './memory.js'
export type { LabMemory, LabMemoryKind, MemoryOptions } from './memory.js'
export { distributionOf, median } from './plots.js'
export type { Curve, Distribution, Plot } from './plots.js'
export { Fill, Ioctl, Mode, RawUserfaultfd, openDevice, openSyscall } from './raw-userfaultfd.js'
export type { IoctlAnswer, Message, RawOpenOptions } from './raw-userfaultfd.js'
export {
  Madv,
  MapFlag,
  Prot,
  addressOf,
  cString,
  must,
  outcomeName,
  peek,
  poke,
  syscall,
} from './raw.js'
export type { RawArgument } from './native.js'
export { LabResponder, LabThread, step, threadState, userSignalCount } from './thread.js'
export type { ResponderOptions, Step, StepResult, SweepOptions, ThreadOptions } from './thread.js'

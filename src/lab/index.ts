/**
 * The kernel lab: write an experiment, export it, run it with `postcopy lab run ./file.js`.
 *
 * @packageDocumentation
 */
export { experiment } from './experiment.js'
export type { Expectation, Experiment, ExperimentDefinition } from './experiment.js'
export {
  addressOf,
  cString,
  LabResponder,
  LabThread,
  Madv,
  MapFlag,
  must,
  type Needs,
  outcomeName,
  peek,
  poke,
  Prot,
  type RawArgument,
  type ResponderOptions,
  step,
  type Step,
  type StepResult,
  type SweepOptions,
  syscall,
  type ThreadOptions,
  threadState,
  userSignalCount,
} from '../host/index.js'
export type { Observation, Observations } from './observation.js'
export { anything, atLeast, atMost, between, oneOf } from './match.js'
export type { Match } from './match.js'
export type { Lab } from './lab.js'
export { memoryKinds, selftestKinds } from './memory.js'
export type { LabMemory, LabMemoryKind, MemoryOptions } from './memory.js'
export { distributionOf, median } from './plots.js'
export type { Curve, Distribution, Plot } from './plots.js'
export { Fill, Ioctl, Mode, RawUserfaultfd, openDevice, openSyscall } from './raw-userfaultfd.js'
export type { IoctlAnswer, Message, RawOpenOptions } from './raw-userfaultfd.js'

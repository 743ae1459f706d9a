/** What both ends of a migration share: states, options, the machine, events, the worker thread. */
export type { ChannelName } from './channel-name.js'
export { checkMachine } from './check-machine.js'
export { createCounters, now } from './counters.js'
export type { Counters } from './counters.js'
export type { GuestLocation } from './guest-location.js'
export { awaitHook, callHook, checkSaved, checkTaken, checkThreadIds } from './hooks.js'
export { isInMemory } from './machine.js'
export type { DeviceState, MachineBlock, MigratableMachine, RamRange } from './machine.js'
export { warnOfMemoryLimit } from './memory-warning.js'
export {
  attachWhileOpen,
  closedByOwner,
  Migration,
  pausedOnPurpose,
  refusePause,
  refuseRecover,
  releaseUserfaultfd,
  workerLost,
} from './migration.js'
export type { MigrationEvents } from './migration.js'
export { MigrationEnd } from './migration-end.js'
export {
  capabilityName,
  checkCapabilities,
  checkOptionNames,
  checkOptionValues,
  checkParameters,
  defaultCapabilities,
  defaultParameters,
  isBoolean,
  parameterName,
  PUSH_NEVER,
  resolveOptions,
} from './options.js'
export type { Capabilities, MigrationOptions, Parameters, ParameterValue } from './options.js'
export { own, refuseOwned } from './ownership.js'
export { PhaseMachine } from './phases.js'
export type { PhaseTable, StateChanged } from './phases.js'
export { RecoverableEnd } from './recoverable-end.js'
export { SharedState } from './shared-state.js'
export { isAtRest, isFinal, isInPostcopy } from './states.js'
export type { MigrationState } from './states.js'
export { runWorker, workerInput } from './worker-input.js'
export { WorkerThread } from './worker-thread.js'

/**
 * Post-copy live migration with QEMU's migration stream.
 *
 * @packageDocumentation
 */
export * from './errors.js'
export {
  Destination,
  type DestinationOptions,
  type FaultReport,
  type PageArrivals,
} from './destination/index.js'
export * from './guest/index.js'
export {
  type Capabilities,
  type Counters,
  defaultCapabilities,
  defaultParameters,
  type DeviceState,
  type GuestLocation,
  type MachineBlock,
  type MigratableMachine,
  type MigrationEvents,
  type MigrationOptions,
  type MigrationState,
  type Parameters,
} from './migration/index.js'
export * from './park/index.js'
export { PageOrder } from './ram/index.js'
export { Source, type SourceOptions } from './source/index.js'
export * from './sources/index.js'

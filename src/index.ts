/**
 * Post-copy live migration over QEMU's own stream.
 *
 * @packageDocumentation
 */
export * from './errors.js'
export { Destination } from './destination/destination.js'
export type { DestinationOptions, PageArrivals } from './destination/destination.js'
export type { FaultReport } from './destination/fault-log.js'
export * from './guest/index.js'
export type { Counters } from './migration/counters.js'
export type { DeviceState, MachineBlock, MigratableMachine } from './migration/machine.js'
export type { MigrationEvents } from './migration/migration.js'
export { defaultCapabilities, defaultParameters } from './migration/options.js'
export type { Capabilities, MigrationOptions, Parameters } from './migration/options.js'
export type { GuestLocation } from './migration/guest-location.js'
export type { MigrationState } from './migration/states.js'
export * from './park/index.js'
export { PageOrder } from './ram/page-order.js'
export { Source } from './source/source.js'
export type { SourceOptions } from './source/source.js'

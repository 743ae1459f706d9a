/** The destination: its state machine, and the worker it runs in. */
export { Destination } from './destination.js'
export type { DestinationOptions, PageArrivals } from './destination.js'
export type { FaultReport } from './fault-log.js'
export { ReturnPathWriter } from './return-path-writer.js'

/** The destination: its API, and the worker that runs it. */
export { Destination } from './destination.js'
export type { DestinationOptions, PageArrivals } from './destination.js'
export type { FaultReport } from './fault-log.js'
export { IncomingSession } from './incoming-session.js'
export type { IncomingActions } from './incoming-session.js'
export { incomingPhases } from './phases.js'
export type { IncomingEvent } from './phases.js'

/** Drives QEMU processes by QMP: parks a running one, and starts one for a parked VM. */
export { QmpClient } from './qmp-client.js'
export type { QmpClientOptions, QmpEvent, QmpVersion } from './qmp-client.js'
export { QmpError, QmpRefusal } from './qmp-error.js'
export { RunningPark } from './park-running.js'
export type { ParkRunningOptions, SwitchAfter } from './park-checks.js'

/**
 * HMP and QMP over a custom machine: a {@link Monitor} on any `MigratableMachine`, its lines on
 * streams or a unix socket, and a {@link QmpServer} on it.
 *
 * @packageDocumentation
 */
export { Monitor } from './monitor.js'
export type { MonitorEvents, MonitorOptions, QuitReason } from './monitor.js'
export type {
  FaultLatencyInfo,
  MigrationInfo,
  PagesInfo,
  RamInfo,
  SocketAddress,
} from './query-migrate.js'
export type { RunState, StatusInfo, GuestPresence } from './guest-presence.js'
export type { ArrivalCounts, BlockArrivals } from './page-arrivals.js'
export {
  MonitorSession,
  PROMPT,
  jsonLine,
  bindUnix,
  serveBound,
  serveStreams,
  serveUnix,
} from './serve.js'
export type { MonitorFormat, MonitorServer } from './serve.js'
export type { BoundServer } from './bound-server.js'
export type { MonitoredMachine } from './monitored-machine.js'
export { checkQmpAddress, guestTarget, migrationTarget, QmpServer } from './qmp/index.js'
export type {
  QmpControl,
  QmpEvent,
  QmpServerOptions,
  QmpTarget,
  ShutdownReason,
} from './qmp/index.js'

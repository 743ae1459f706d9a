/** The monitor, by which users control one guest process. */
export { Monitor } from './monitor.js'
export type { MonitorEvents, MonitorOptions, QuitReason } from './monitor.js'
export type {
  FaultLatencyInfo,
  MigrationInfo,
  PagesInfo,
  RamInfo,
  SocketAddress,
} from './query-migrate.js'
export type { RunState, StatusInfo, GuestPresence as Whereabouts } from './guest-presence.js'
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

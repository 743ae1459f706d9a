/** QEMU's Machine Protocol, by which programs control migrations. */
export { QmpServer, checkQmpAddress } from './server.js'
export type { QmpServerOptions } from './server.js'
export { guestTarget } from './guest-target.js'
export { migrationTarget } from './migration-target.js'
export type { QmpControl, QmpEvent, QmpTarget, ShutdownReason } from './target.js'

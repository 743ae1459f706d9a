/** Exports for other folders; not part of the package's interface. */
export { checkQmpAddress, guestTarget, migrationTarget, QmpServer } from './qmp/index.js'
export type { QmpServerOptions, QmpTarget } from './qmp/index.js'
export { sourceInfo } from './query-migrate.js'

/** Exports for other folders; not part of the package's interface. */
export { sourceInfo } from './query-migrate.js'

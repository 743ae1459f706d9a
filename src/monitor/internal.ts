/** Exports for other folders; not part of the package's interface. */
export { sourceInfo } from './query-migrate.js'
export { JsonSplitter } from './qmp/json-splitter.js'

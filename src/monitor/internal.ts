/** For the other rooms; no part of the package's interface. */
export { sourceInfo } from './query-migrate.js'

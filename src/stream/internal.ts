/** For the other rooms; no part of the package's interface. */
export { JsonReader } from './json-reader.js'

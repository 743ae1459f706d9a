/** For the other folders of `src`; not part of the public interface. */
export { JsonReader } from './json-reader.js'

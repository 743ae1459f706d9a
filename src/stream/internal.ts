/** For the other folders of `src`; not part of the public interface. */
export { readConfiguration } from './configuration-decoder.js'
export { JsonReader } from './json-reader.js'
export {
  RAM_SECTION_TAIL_BYTES,
  writeRamRecordHead,
  writeRamSectionHead,
  writeRamSectionTail,
} from './ram-section.js'

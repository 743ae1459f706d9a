/** For the other folders of `src`; not part of the public interface. */
export { BlockListDecoder } from './block-list-decoder.js'
export { INCOMPLETE } from './channel-decoder.js'
export { readConfiguration } from './configuration-decoder.js'
export { sizeDevices } from './device-sizes.js'
export type { DeviceSize } from './device-sizes.js'
export { DeviceTailCollector } from './device-tail.js'
export { isJsonObject, JsonReader } from './json-reader.js'
export { u16At, u32At } from './reader.js'
export {
  RAM_SECTION_TAIL_BYTES,
  writeRamRecordHead,
  writeRamSectionHead,
  writeRamSectionTail,
} from './ram-section.js'

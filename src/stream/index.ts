/**
 * QEMU's migration stream: encode, and decode incrementally. Pure bytes, no I/O.
 *
 * @packageDocumentation
 */
export * from './constants.js'
export { StreamErrorCode } from './errors.js'
export { StreamError } from '../errors.js'
export type { ConfigurationSubsection, RamBlockInfo, SectionHeader } from './types.js'

export { decodeName, encodeName } from './names.js'
export { encode, Writer } from './writer.js'
export { Reader } from './reader.js'
export * from './encode-section.js'
export * from './encode-command.js'
export * from './encode-ram.js'
export * from './encode-return-path.js'

export {
  decodeDeviceSections,
  DeviceSectionReader,
  DeviceSectionWriter,
} from './device-sections.js'
export type { DeviceSection } from './device-sections.js'
export { checkListen, decodePackage, encodePackage, findPackagePings } from './package.js'
export type { PackageCut, PackageHandler } from './package.js'

export { MAX_LOOK_AHEAD_BYTES } from './channel-decoder.js'
export type { ChannelDecoder } from './channel-decoder.js'
export { DEFAULT_LIMITS } from './decoder-options.js'
export type { StreamDecoderOptions, StreamLimits } from './decoder-options.js'
export type { RamHandler, ReturnPathHandler, StreamHandler } from './handler.js'
export { PreemptDecoder } from './preempt-decoder.js'
export { ReturnPathDecoder } from './return-path-decoder.js'
export { StreamDecoder } from './stream-decoder.js'
export type { StreamPhase } from './stream-decoder.js'
export { StreamFeeder } from './stream-feeder.js'

import type { RamBlockInfo } from './types.js'

/** Limits of what a decoder stores for a peer. More is `ERR_STREAM_LIMIT`. */
export interface StreamLimits {
  /** Blob of a PACKAGED command. Default 64 MiB; QEMU's machines have 14 KiB to some MiB. */
  readonly maxPackageBytes: number
  /** Device sections and description of a precopy together. Default 64 MiB. */
  readonly maxDeviceTailBytes: number
  /** The description of a precopy. Default 16 MiB; QEMU's descriptions have 30 KiB to some MiB. */
  readonly maxDescriptionBytes: number
  /** Default 1024. */
  readonly maxRamBlocks: number
}

export const DEFAULT_LIMITS: StreamLimits = {
  maxPackageBytes: 64 * 2 ** 20,
  maxDeviceTailBytes: 64 * 2 ** 20,
  maxDescriptionBytes: 16 * 2 ** 20,
  maxRamBlocks: 1024,
}

export interface StreamDecoderOptions {
  readonly limits?: Partial<StreamLimits>
  /**
   * The receiver's own host page size of a RAM block, in bytes; undefined for an unknown block. A
   * block list with a different page size is rejected.
   */
  readonly pageSizeOf?: (name: string) => number | undefined
  /**
   * For the connection of a recovery. It begins in postcopy, without file header, configuration and
   * START, and uses the section id and blocks of the first connection.
   */
  readonly resume?: { readonly ramSectionId: number; readonly blocks: readonly RamBlockInfo[] }
}

/** Types that the encoder and the decoder share. */

/** A RAM block as the stream announces it in the `ram` START. */
export interface RamBlockInfo {
  /** 1 to 255 bytes of UTF-8; for other encodings see {@link decodeName}. */
  readonly name: string
  /** Multiple of the target page size, more than 0. */
  readonly usedLengthBytes: number
  /**
   * The block's host page size; undefined if it was not announced. A source announces it only with
   * `postcopy-ram`, and only if it differs from the page size of the host.
   */
  readonly pageSizeBytes?: number | undefined
}

/** Identifies a section: (`idstr`, `instanceId`) is the device, `id` its alias in this stream. */
export interface SectionHeader {
  /** Any u32; unique in its stream. */
  readonly id: number
  /** At most 255 bytes; for PCI devices it contains the path. */
  readonly idstr: string
  readonly instanceId: number
  readonly version: number
}

/** A subsection that follows the machine type. */
export type ConfigurationSubsection =
  | { readonly name: 'configuration/target-page-bits'; readonly bits: number }
  | { readonly name: 'configuration/capabilities'; readonly capabilities: readonly string[] }
  | { readonly name: 'configuration/uuid'; readonly uuid: Uint8Array }

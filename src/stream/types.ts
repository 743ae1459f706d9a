/** What both sides of the codec speak of. */

/** A RAM block as the stream announces it in the `ram` START. */
export interface RamBlockInfo {
  /** 1 to 255 bytes of UTF-8; for those of another encoding see {@link decodeName}. */
  readonly name: string
  /** Multiple of the target page size, more than 0. */
  readonly usedLengthBytes: number
  /**
   * The block's host page size, which a source announces only with `postcopy-ram` on and only
   * where it differs from that of the host; undefined where it was not announced.
   */
  readonly pageSizeBytes?: number | undefined
}

/** Names a section: (`idstr`, `instanceId`) is the device, `id` its alias in this stream. */
export interface SectionHeader {
  /** Any u32, unique in its stream. */
  readonly id: number
  /** At most 255 bytes; PCI devices have their path in it. */
  readonly idstr: string
  readonly instanceId: number
  readonly version: number
}

/** A subsection behind the machine type. */
export type ConfigurationSubsection =
  | { readonly name: 'configuration/target-page-bits'; readonly bits: number }
  | { readonly name: 'configuration/capabilities'; readonly capabilities: readonly string[] }
  | { readonly name: 'configuration/uuid'; readonly uuid: Uint8Array }

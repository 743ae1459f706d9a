/** Callbacks of the decoders. All are optional: elements without one are checked and dropped. */
import type { ConfigurationSubsection, RamBlockInfo, SectionHeader } from './types.js'

/** Guest memory, on the main and the preempt channel. */
export interface RamHandler {
  /**
   * Bulk interface: takes complete records with exactly PAGE|CONTINUE or ZERO|CONTINUE, which
   * belong to the block of the previous record. Returns how many bytes it took. It must check
   * offsets and fill bytes itself. The decoder decodes the record at which it stopped, and then
   * calls it again. It is only called if at least one such record is complete.
   */
  ramRecords?(block: string, bytes: Uint8Array, start: number, end: number): number
  /** The page is `bytes[start..start + 4096)`; `bytes` is the input, not a copy. */
  ramPage?(block: string, offset: number, bytes: Uint8Array, start: number): void
  ramZero?(block: string, offset: number): void
  /** EOS: the data of the section ends; its footer follows. */
  ramEndOfSection?(): void
}

/** The main channel, source to destination. */
export interface StreamHandler extends RamHandler {
  fileHeader?(version: number): void
  /** `raw` is a copy of the whole element, which allows a replay. */
  configuration?(
    machineType: string,
    raw: Uint8Array,
    subsections: readonly ConfigurationSubsection[],
  ): void

  openReturnPath?(): void
  ping?(value: number): void
  /** Both undefined: postcopy of block dirty bitmaps only, which does not concern RAM. */
  advise?(pageSizeSummary: number | undefined, targetPageSize: number | undefined): void
  /** `ranges`: start, length, start, length, … in bytes; aligned and inside the block. */
  ramDiscard?(block: string, ranges: Float64Array): void
  /** The handler owns `blob`; `streamOffset` is that of its first byte. */
  packaged?(blob: Uint8Array<ArrayBuffer>, streamOffset: number): void
  resume?(): void
  recvBitmap?(block: string): void
  switchoverStart?(): void

  sectionStart?(header: SectionHeader): void
  sectionPart?(header: SectionHeader): void
  sectionEnd?(header: SectionHeader): void
  footer?(id: number): void
  ramBlocks?(blocks: readonly RamBlockInfo[]): void

  /**
   * The FULL sections after the `ram` END of a precopy, as one opaque array, see
   * {@link decodeDeviceSections}. The handler owns `bytes`. Called right before `endOfStream`.
   */
  deviceTail?(bytes: Uint8Array<ArrayBuffer>, streamOffset: number): void
  endOfStream?(): void
  vmDescription?(json: string): void
}

/** The return path, destination to source. */
export interface ReturnPathHandler {
  /** The last message; 0 is success. */
  shut?(value: number): void
  pong?(value: number): void
  /** The range is aligned to the block's page size and inside its used length. */
  requestPages?(block: string, start: number, lengthBytes: number): void
  /** Page i is bit `i & 7` of byte `i >> 3`, 1 = received. The handler owns `bitmap`. */
  recvBitmap?(block: string, bitmap: Uint8Array<ArrayBuffer>): void
  resumeAck?(): void
  switchoverAck?(): void
}

/** What decoders call. All methods are optional: what nobody takes is checked and dropped. */
import type { ConfigurationSubsection, RamBlockInfo, SectionHeader } from './types.js'

/** Guest memory, on the main and the preempt channel. */
export interface RamHandler {
  /**
   * The bulk way: takes complete records of the block of the record before, which are exactly
   * PAGE|CONTINUE or ZERO|CONTINUE, and returns how many bytes of them it took; it has checked
   * offset and fill byte itself. The record it stopped at is decoded here, and then it is called
   * again. It is only called where at least one such record is complete.
   */
  ramRecords?(block: string, bytes: Uint8Array, start: number, end: number): number
  /** The page is `bytes[start..start + 4096)`; `bytes` is the input, not a copy. */
  ramPage?(block: string, offset: number, bytes: Uint8Array, start: number): void
  ramZero?(block: string, offset: number): void
  /** EOS: the data of the section ends, its footer follows. */
  ramEndOfSection?(): void
}

/** The main channel, source to destination. */
export interface StreamHandler extends RamHandler {
  fileHeader?(version: number): void
  /** `raw` is the whole element, for those who replay it; a copy. */
  configuration?(
    machineType: string,
    raw: Uint8Array,
    subsections: readonly ConfigurationSubsection[],
  ): void

  openReturnPath?(): void
  ping?(value: number): void
  /** Both undefined: postcopy of dirty bitmaps only, which has nothing to do with RAM. */
  advise?(pageSizeSummary: number | undefined, targetPageSize: number | undefined): void
  /** `ranges`: start, length, start, length, … in bytes; aligned and inside the block. */
  ramDiscard?(block: string, ranges: Float64Array): void
  /** `blob` belongs to the handler; `streamOffset` is that of its first byte. */
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
   * The FULL sections behind the `ram` END of a precopy, at once and opaque, see
   * {@link decodeDeviceSections}. Belongs to the handler. Comes right before `endOfStream`.
   */
  deviceTail?(bytes: Uint8Array<ArrayBuffer>, streamOffset: number): void
  endOfStream?(): void
  vmDescription?(json: string): void
}

/** The return path, destination to source. */
export interface ReturnPathHandler {
  /** 0 is success. The last message. */
  shut?(value: number): void
  pong?(value: number): void
  /** Aligned to the block's page size and inside its used length. */
  requestPages?(block: string, start: number, lengthBytes: number): void
  /** Page i is bit `i & 7` of byte `i >> 3`, 1 = received. Belongs to the handler. */
  recvBitmap?(block: string, bitmap: Uint8Array<ArrayBuffer>): void
  resumeAck?(): void
  switchoverAck?(): void
}

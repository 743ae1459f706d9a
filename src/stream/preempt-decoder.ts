import { ChannelDecoder } from './channel-decoder.js'
import { refuse } from './errors.js'
import type { RamHandler } from './handler.js'
import { RamBlockTable } from './ram-block-table.js'
import { RamRecordDecoder } from './ram-record-decoder.js'
import type { RamBlockInfo } from './types.js'

/**
 * The preempt channel: bare `ram` records; CONTINUE refers to the last block of this channel. It
 * ends with EOS (QEMU 7.2 needs it, newer versions do not send it), or when the connection closes.
 */
export class PreemptDecoder extends ChannelDecoder {
  readonly #records: RamRecordDecoder

  /** @param blocks - of the main channel's block list, because this channel is unused in precopy */
  constructor(handler: RamHandler, blocks: readonly RamBlockInfo[]) {
    super()
    this.#records = new RamRecordDecoder(handler, new RamBlockTable(blocks))
  }

  protected override step(bytes: Uint8Array, at: number, end: number): number {
    const next = this.#records.step(bytes, at, end, this.base, this)
    this.isFinished = this.#records.atEndOfSection
    return next
  }

  protected override finish(leftover: number): void {
    if (leftover > 0) {
      refuse('truncated', 'the preempt channel ended inside a record', this.streamOffset)
    }
    this.isFinished = true
  }
}

/**
 * Names what is owed in good time: at the destination the memory of a discarded page has to be
 * freed, and that is better done while the guest still runs. What it writes meanwhile is named
 * in the next round, and the last round is short.
 */
import type { PageBitmap } from '../ram/page-bitmap.js'
import type { TrackedBlock } from '../ram/dirty-log.js'
import { encodeDiscards } from './elements.js'
import type { SourceLink } from './link.js'

/** So few pages of a block are left to the last round, in which the guest is stopped. */
const FEW_PAGES = 64

export class DiscardAnnouncer {
  readonly #blocks: readonly TrackedBlock[]
  /** By block, the pages that were named; they stay dirty until they are sent. */
  #announced: readonly PageBitmap[] | undefined

  constructor(blocks: readonly TrackedBlock[]) {
    this.#blocks = blocks
  }

  /** Names the dirty pages that were not named before. */
  announce(link: SourceLink): void {
    link.write(encodeDiscards(this.#unannounced()))
    this.#announced = this.#blocks.map(({ dirty }) => dirty.copy())
  }

  /** Whether another round before the stop would find little. */
  get isNearlyDone(): boolean {
    if (this.#announced === undefined) return false
    return this.#unannounced().every(({ dirty }) => dirty.count() < FEW_PAGES)
  }

  #unannounced(): TrackedBlock[] {
    return this.#blocks.map(({ block, dirty }, index) => {
      dirty.roundOut(block.hostPages)
      const fresh = dirty.copy()
      const announced = this.#announced?.[index]
      if (announced !== undefined) fresh.remove(announced)
      return { block, dirty: fresh }
    })
  }
}

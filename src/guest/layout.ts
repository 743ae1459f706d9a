/**
 * The layout of guest RAM. `ram` has the pages of the vCPUs, then those of the devices:
 *
 *     0                                        ramBytes - 48 KiB             ramBytes
 *     | vcpu 0 | vcpu 1 | …                    | queue, 8 pages | block, 4 pages |
 *
 * `ledger` has a u32 for each page of `ram`: the version that the page must have.
 */
import { PostcopyError } from '../errors.js'
import { TARGET_PAGE_SIZE, formatByteSize } from '../units.js'

export const QUEUE_PAGES = 8
export const BLOCK_PAGES = 4
const LEDGER_ENTRY_BYTES = 4
/** Whole pages on every host (4, 16 or 64 KiB), because the length must be equal on both ends. */
const LEDGER_UNIT_BYTES = 64 * 1024

export interface Layout {
  readonly ramBytes: number
  readonly ledgerBytes: number
  /** Pages of `ram` that belong to vCPUs. */
  readonly vcpuPages: number
  /** Offset of the queue device's pages in `ram`. */
  readonly queueOffset: number
  /** Offset of the block device's pages in `ram`. */
  readonly blockOffset: number
}

/** The ledger and the wire count pages in 32 bits. */
const MOST_PAGES = 2 ** 32

/** @throws PostcopyError `ERR_INVALID_MACHINE` if the vCPUs would have no pages, or too many */
export function layOut(ramBytes: number, vcpus: number): Layout {
  const pages = ramBytes / TARGET_PAGE_SIZE
  const vcpuPages = pages - QUEUE_PAGES - BLOCK_PAGES
  if (!Number.isInteger(pages)) {
    const multiple = formatByteSize(TARGET_PAGE_SIZE)
    throw invalid(`${ramBytes} bytes of RAM are not whole pages: give a multiple of ${multiple}`)
  }
  if (vcpuPages < vcpus) {
    const least = formatByteSize((vcpus + QUEUE_PAGES + BLOCK_PAGES) * TARGET_PAGE_SIZE)
    const count = vcpus === 1 ? '1 vCPU' : `${vcpus} vCPUs`
    throw invalid(
      `${formatByteSize(ramBytes)} of RAM is not enough for ${count}: at least ${least}`,
    )
  }
  if (pages >= MOST_PAGES) {
    const limit = formatByteSize(MOST_PAGES * TARGET_PAGE_SIZE)
    throw invalid(`${formatByteSize(ramBytes)} of RAM is too much: give less than ${limit}`)
  }
  return {
    ramBytes,
    ledgerBytes: Math.ceil((pages * LEDGER_ENTRY_BYTES) / LEDGER_UNIT_BYTES) * LEDGER_UNIT_BYTES,
    vcpuPages,
    queueOffset: vcpuPages * TARGET_PAGE_SIZE,
    blockOffset: (vcpuPages + QUEUE_PAGES) * TARGET_PAGE_SIZE,
  }
}

function invalid(message: string): PostcopyError {
  return new PostcopyError('ERR_INVALID_MACHINE', message)
}

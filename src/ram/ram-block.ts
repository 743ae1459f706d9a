/** A RAM block inside a worker: its memory, and its size in target pages and host pages. */
import { PostcopyError } from '../errors.js'
import { MemoryRegion, PageFile, type PageMemory } from '../kernel/index.js'
import { encodeName } from '../stream/index.js'
import { TARGET_PAGE_SIZE } from '../units.js'

/** What a worker needs to attach the block; plain data for `workerData`. */
export type RamBlockDescriptor = MemoryId & {
  readonly name: string
  readonly lengthBytes: number
  /** Host page size; default: that of the region. */
  readonly pageSizeBytes?: number | undefined
}

/** Memory, or files that have the pages. */
export type MemoryId = { readonly regionId: number } | { readonly pageFileId: number }

export class RamBlock {
  readonly name: string
  readonly nameBytes: Uint8Array
  /** Where the pages are. */
  readonly pages: PageMemory
  readonly lengthBytes: number
  /** Target pages. */
  readonly pageCount: number
  /** Bytes of the pages that the kernel maps: 4096, or 2 MiB for hugetlb. */
  readonly hostPageSize: number
  /** Target pages in a host page. */
  readonly hostPages: number

  private constructor(descriptor: RamBlockDescriptor) {
    this.name = descriptor.name
    this.nameBytes = bytesOfName(descriptor.name)
    this.pages =
      'regionId' in descriptor
        ? MemoryRegion.attach(descriptor.regionId)
        : PageFile.attach(descriptor.pageFileId)
    this.lengthBytes = descriptor.lengthBytes
    this.pageCount = descriptor.lengthBytes / TARGET_PAGE_SIZE
    this.hostPageSize = descriptor.pageSizeBytes ?? this.pages.pageSizeBytes
    this.hostPages = this.hostPageSize / TARGET_PAGE_SIZE
    if (this.nameBytes.length === 0 || this.nameBytes.length > 255) {
      throw new PostcopyError(
        'ERR_INVALID_BLOCK',
        `a RAM block's name has 1 to 255 bytes: "${this.name}"`,
      )
    }
    if (this.lengthBytes % this.hostPageSize !== 0 || this.lengthBytes > this.pages.lengthBytes) {
      throw new PostcopyError(
        'ERR_INVALID_BLOCK',
        `RAM block "${this.name}": ${this.lengthBytes} bytes are not whole pages of ${this.hostPageSize} inside its region of ${this.pages.lengthBytes}`,
      )
    }
  }

  /** Attaches the blocks on this thread. Each keeps its memory or files until it is closed. */
  static attachAll(descriptors: readonly RamBlockDescriptor[]): RamBlock[] {
    return descriptors.map((descriptor) => new RamBlock(descriptor))
  }

  /** The bitwise OR of all host page sizes: ADVISE's summary (protocol section 2.1). */
  static pageSizeSummary(blocks: readonly RamBlock[]): number {
    const sizes = new Set(blocks.map((block) => block.hostPageSize))
    return [...sizes].reduce((sum, size) => sum + size, 0)
  }

  /**
   * The memory of the block.
   *
   * @throws PostcopyError `ERR_INTERNAL` for a block whose pages are in files
   */
  get region(): MemoryRegion {
    if (this.pages instanceof MemoryRegion) return this.pages
    throw new PostcopyError('ERR_INTERNAL', `the pages of "${this.name}" are not in memory`)
  }

  close(): void {
    this.pages.close()
  }
}

/** @throws PostcopyError `ERR_INVALID_BLOCK` */
export function bytesOfName(name: string): Uint8Array {
  try {
    return encodeName(name)
  } catch (cause) {
    const said = `the name of RAM block ${JSON.stringify(name)} cannot be encoded in UTF-8`
    throw new PostcopyError('ERR_INVALID_BLOCK', said, { cause })
  }
}

/** The memory of a VM that does not run here, such as a saved one: what a source sends. */
import type { PageFile } from '../kernel/index.js'
import type { PageBitmap } from '../ram/index.js'

export interface PageSourceBlock {
  /** QEMU's name, one character per byte. */
  readonly name: string
  /** Bytes; a multiple of the page size. */
  readonly lengthBytes: number
  /** Host page of the machine, in bytes. */
  readonly pageSizeBytes: number
  /** Where the pages are. */
  readonly pages: PageFile
  /** Target pages that may hold anything but zeros. The others are zero. */
  readonly data: PageBitmap
  /** The pages that are here at all, if a source has lost the others; default: all. */
  readonly available?: PageBitmap
}

export interface PageSource {
  readonly blocks: readonly PageSourceBlock[]
  /** Closes the files. Migrations that are under way keep them open. May be called twice. */
  close(): void
}

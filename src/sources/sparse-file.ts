/** A RAM block in a file of its own, page by page: its holes are zero pages. */
import { fileExtents, PageFile, PageFileRun } from '../kernel/index.js'
import { PageBitmap } from '../ram/index.js'
import { TARGET_PAGE_SIZE } from '../units.js'

/**
 * @param fd - of the file, which has `lengthBytes`; the caller keeps and closes it
 * @throws KernelError if the file system cannot tell where the holes are
 */
export function openSparseFile(
  fd: number,
  lengthBytes: number,
): { readonly pages: PageFile; readonly data: PageBitmap } {
  const pageCount = lengthBytes / TARGET_PAGE_SIZE
  const data = dataOf(fd, lengthBytes)
  const runs = new Float64Array(PageFileRun.stride)
  runs[PageFileRun.pageCount] = pageCount
  runs[PageFileRun.strideBytes] = TARGET_PAGE_SIZE
  return { pages: PageFile.open({ fds: [fd], lengthBytes, runs, data: data.bytes }), data }
}

/** The pages that are not in holes. @throws KernelError as {@link openSparseFile} */
export function dataOf(fd: number, lengthBytes: number): PageBitmap {
  const data = new PageBitmap(lengthBytes / TARGET_PAGE_SIZE)
  for (const [start, end] of fileExtents(fd, 0, lengthBytes)) {
    data.setRange(Math.floor(start / TARGET_PAGE_SIZE), Math.ceil(end / TARGET_PAGE_SIZE))
  }
  return data
}

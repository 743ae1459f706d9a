/** Where a sparse file has data. */
import { constants } from 'node:os'
import { check } from './check.js'
import { native } from './load.js'

/** A range of a file, in bytes; `end` is exclusive. */
export interface FileExtent {
  readonly start: number
  readonly end: number
}

/**
 * Finds the first extent of a file with data at or after an offset. Data may be zeros; holes always
 * are. A file system without holes reports the whole file as data. Changes the file position of the
 * descriptor.
 *
 * @returns undefined if there is no data from `from` on
 * @throws KernelError `EBADF`; `ESPIPE` for a descriptor that is not a file
 * @see lseek(2), `SEEK_DATA`, `SEEK_HOLE`
 */
export function fileExtents(fd: number, from: number): FileExtent | undefined {
  const start = native().fileSeek(fd, from, false)
  if (start === -constants.errno.ENXIO) return undefined
  check(start, 'lseek', () => `${fd}, ${from}, SEEK_DATA`)
  const end = native().fileSeek(fd, start, true)
  return { start, end: check(end, 'lseek', () => `${fd}, ${start}, SEEK_HOLE`) }
}

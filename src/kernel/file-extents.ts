/** Where a sparse file has data. */
import { check } from './check.js'
import { native } from './load.js'
import { FileExtent } from './native.js'

const EXTENTS_A_CALL = 256

/**
 * The parts of a file that are not holes, as `[start, end)` in bytes, ascending. They may be zeros,
 * too; a file system without holes has one part. Moves the descriptor's file offset.
 *
 * @throws KernelError `EBADF`; `ESPIPE` for a descriptor that is not a file
 * @see lseek(2), `SEEK_DATA`, `SEEK_HOLE`
 */
export function* fileExtents(
  fd: number,
  from: number,
  to: number,
): Generator<readonly [start: number, end: number]> {
  const out = new Float64Array(EXTENTS_A_CALL * FileExtent.stride)
  for (let at = from; at < to;) {
    const found = native().fileExtents(fd, at, to, out)
    const count = check(found, 'lseek', () => `fd ${fd}, ${at}, SEEK_DATA`)
    for (let index = 0; index < count; index += 1) {
      const row = index * FileExtent.stride
      const end = out[row + FileExtent.end] ?? to
      yield [out[row + FileExtent.start] ?? 0, end]
      at = end
    }
    if (count < EXTENTS_A_CALL) return
  }
}

/** Reads files; errors name the file and the offset, as those of the native reads do. */
import { readSync } from 'node:fs'
import { readError } from '../kernel/internal.js'

/**
 * Reads until `target` is full, or the file ends.
 *
 * @returns bytes read: fewer if the file is shorter
 * @throws KernelError `EIO`, …
 */
export function readAt(fd: number, target: Uint8Array, position: number): number {
  for (let have = 0; have < target.length;) {
    const [left, at] = [target.length - have, position + have]
    try {
      const count = readSync(fd, target, have, left, at)
      if (count === 0) return have
      have += count
    } catch (error) {
      throw readError(error, fd, at, left)
    }
  }
  return target.length
}

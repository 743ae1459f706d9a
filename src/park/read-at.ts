/** Reads files; errors name the file and the offset, as those of the native reads do. */
import { readSync } from 'node:fs'
import { kernelError, pathOf } from '../kernel/index.js'

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

/** The error of a failed read; an error other than a system error is returned unchanged. */
export function readError(
  error: unknown,
  fd: number,
  position: number,
  lengthBytes: number,
): unknown {
  const { errno } = error as NodeJS.ErrnoException
  if (errno === undefined) return error
  const what = `${pathOf(fd)}, ${lengthBytes} bytes at offset ${position}`
  return kernelError(errno, 'pread', what, 'it cannot be read')
}

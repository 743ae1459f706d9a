/** System calls whose buffer is guest RAM. */
import { KernelError, PostcopyError } from '../../errors.js'
import type { MemoryRegion } from '../../kernel/index.js'

/** More failures than this mean that the page is removed again after each touch. */
const MAX_EFAULTS = 8

/**
 * Reads a file into guest RAM with read(2). If a page is missing, the fault happens inside the
 * kernel and is handled like any other. With a user-mode-only userfaultfd, the call fails with
 * EFAULT. Then a touch from user mode fetches the page first.
 *
 * @throws KernelError, also EFAULT if a touch does not help
 * @throws PostcopyError `ERR_DEVICE_IO` if the file ends early
 */
export function readFileIntoGuest(
  region: MemoryRegion,
  fd: number,
  position: number,
  offset: number,
  lengthBytes: number,
): void {
  let done = 0
  let faults = 0
  while (done < lengthBytes) {
    const rest = lengthBytes - done
    try {
      const count = region.readFile(fd, position + done, offset + done, rest)
      if (count === 0) throw new PostcopyError('ERR_DEVICE_IO', `file ends at ${position + done}`)
      done += count
    } catch (error) {
      faults += 1
      const isFault = error instanceof KernelError && error.code === 'EFAULT'
      if (!isFault || faults > MAX_EFAULTS) throw error
      region.touch(offset + done, rest, 'write')
    }
  }
}

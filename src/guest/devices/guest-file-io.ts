/** System calls whose buffer is guest RAM. */
import { KernelError, PostcopyError } from '../../errors.js'
import type { MemoryRegion } from '../../kernel/index.js'

/** A fault repairs at most one try; more mean that the page goes again while we look. */
const MAX_EFAULTS = 8

/**
 * Reads a file into guest RAM with read(2). On a page that is missing, the fault comes from
 * inside the kernel and is served like any other, unless the userfaultfd is user-mode-only: then
 * the call fails with EFAULT, and the page is fetched by a touch from user mode first.
 *
 * @throws KernelError, also EFAULT where touching does not help
 * @throws PostcopyError `ERR_DEVICE_IO` where the file ends early
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

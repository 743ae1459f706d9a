import { setImmediate } from 'node:timers/promises'
import type { MemoryRegion } from '../kernel/index.js'

/** Bytes to populate before the event loop of this thread runs again. */
const POPULATED_AT_ONCE_BYTES = 32 * 2 ** 20

/**
 * Makes missing huge pages present: only from then on do they count against the limit of a control
 * group, and no other process can take them. Pages that are present keep their content.
 *
 * @throws KernelError `ENOMEM` if there are too few huge pages
 */
export async function populate(region: MemoryRegion, lengthBytes: number): Promise<void> {
  for (let offset = 0; offset < lengthBytes; offset += POPULATED_AT_ONCE_BYTES) {
    region.populate(offset, Math.min(POPULATED_AT_ONCE_BYTES, lengthBytes - offset))
    await setImmediate()
  }
}

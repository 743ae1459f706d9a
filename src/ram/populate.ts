import { setImmediate } from 'node:timers/promises'
import type { MemoryRegion } from '../kernel/index.js'

/** Huge pages filled with zeros before other events of this thread get their turn. */
const POPULATED_AT_ONCE_BYTES = 32 * 2 ** 20

/**
 * Makes missing huge pages present: only then they count against the limit of a control group, and no
 * other process can take them. The content of the others stays.
 *
 * @throws KernelError `ENOMEM` where they are short
 */
export async function populate(region: MemoryRegion, lengthBytes: number): Promise<void> {
  for (let offset = 0; offset < lengthBytes; offset += POPULATED_AT_ONCE_BYTES) {
    region.populate(offset, Math.min(POPULATED_AT_ONCE_BYTES, lengthBytes - offset))
    await setImmediate()
  }
}

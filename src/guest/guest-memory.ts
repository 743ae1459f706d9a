/** The memory of a guest's RAM blocks. */
import { MemoryRegion } from '../kernel/index.js'
import type { MachineBlock } from '../migration/machine.js'
import { tick } from '../migration/signal.js'
import { layOut, type Layout } from './layout.js'

export type MemoryKind = 'anon' | 'memfd' | 'hugetlb'

export interface GuestMemory {
  readonly ram: MemoryRegion
  readonly ledger: MemoryRegion
  readonly layout: Layout
}

/** @throws KernelError or PostcopyError; then nothing stays allocated */
export function allocate(kind: MemoryKind, ramBytes: number, vcpus: number): GuestMemory {
  const layout = layOut(ramBytes, vcpus)
  const ram = MemoryRegion.create({ kind, lengthBytes: ramBytes, name: 'postcopy-ram' })
  try {
    // One first touch then brings 512 pages. A destination forbids them for as long as pages are missing; see
    // Placement for why a memfd has none.
    if (kind === 'anon') ram.adviseHugePages('HUGEPAGE')
    const ledger = MemoryRegion.create({
      // Mixed page sizes on purpose: a guest on huge pages has its ledger on small ones.
      kind: kind === 'hugetlb' ? 'anon' : kind,
      lengthBytes: layout.ledgerBytes,
      name: 'postcopy-ledger',
    })
    return { ram, ledger, layout }
  } catch (error) {
    ram.close()
    throw error
  }
}

/** Huge pages filled with zeros before other events of this thread get their turn. */
const POPULATED_AT_ONCE_BYTES = 32 * 2 ** 20

/**
 * Makes all huge pages present: only then they count against the limit of a control group, and no other
 * process can take them.
 *
 * @throws KernelError `ENOMEM` where they are short
 */
export async function populate({ region, lengthBytes }: MachineBlock): Promise<void> {
  for (let offset = 0; offset < lengthBytes; offset += POPULATED_AT_ONCE_BYTES) {
    region.populate(offset, Math.min(POPULATED_AT_ONCE_BYTES, lengthBytes - offset))
    await tick()
  }
}

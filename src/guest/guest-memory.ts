/** The memory of a guest's RAM blocks. */
import { MemoryRegion } from '../kernel/index.js'
import { layOut, type Layout } from './layout.js'

export type MemoryKind = 'anon' | 'memfd' | 'hugetlb'

export interface GuestMemory {
  readonly ram: MemoryRegion
  readonly ledger: MemoryRegion
  readonly layout: Layout
}

/** @throws KernelError or PostcopyError, after freeing everything */
export function allocate(kind: MemoryKind, ramBytes: number, vcpus: number): GuestMemory {
  const layout = layOut(ramBytes, vcpus)
  const ram = MemoryRegion.create({ kind, lengthBytes: ramBytes, name: 'postcopy-ram' })
  try {
    // With huge pages, one first touch allocates 512 pages. A destination forbids them while pages
    // are missing; see Placement for why a memfd has none.
    if (kind === 'anon') ram.adviseHugePages('HUGEPAGE')
    const ledger = MemoryRegion.create({
      // Mixed page sizes on purpose: the ledger of a guest on huge pages has small ones.
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

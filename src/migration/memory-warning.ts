/** Warns if a control group grants less memory than the RAM of a machine needs. */
import type { MemoryRegion } from '../kernel/index.js'
import { memoryLimit } from '../kernel/internal.js'
import { formatByteSize } from '../units.js'
import { isInMemory, type MachineBlock, type MigratableMachine } from './machine.js'

const MINCORE_PAGE_BYTES = 4096
/** Bytes of RAM that one buffer covers. */
const SLICE_BYTES = 2 ** 30

const checked = new WeakSet<MigratableMachine>()

/**
 * Emits the process warning `POSTCOPY_MEMORY_LIMIT` if RAM that is not resident yet exceeds what
 * the control group has left. Checks each machine once, because its RAM is resident later. Huge
 * pages have a separate limit, and allocating too many of them fails.
 */
export function warnOfMemoryLimit(machine: MigratableMachine): void {
  if (checked.has(machine)) return
  checked.add(machine)
  const limit = memoryLimit()
  if (limit === undefined) return
  const blocks = machine.blocks
    .filter(isInMemory)
    .filter(({ region }) => region.kind === 'anon' || region.kind === 'memfd')
  const ramBytes = sum(blocks, ({ lengthBytes }) => lengthBytes)
  if (limit.headroomBytes >= ramBytes) return
  const missingBytes = ramBytes - sum(blocks, residentBytes)
  if (limit.headroomBytes >= missingBytes) return
  const [ram, left, all] = [ramBytes, limit.headroomBytes, limit.limitBytes].map(formatByteSize)
  process.emitWarning(
    `the guest has ${ram} of RAM, but the control group has only ${left} left of ${all} (${limit.path}); above the limit the kernel kills the process`,
    { code: 'POSTCOPY_MEMORY_LIMIT' },
  )
}

function sum(blocks: readonly MachineBlock[], of: (block: MachineBlock) => number): number {
  return blocks.reduce((total, block) => total + of(block), 0)
}

/** Bytes of a block that the control group already counts. */
function residentBytes({ region, lengthBytes }: MachineBlock): number {
  let pages = 0
  for (let offset = 0; offset < lengthBytes; offset += SLICE_BYTES) {
    pages += residentPages(region, offset, Math.min(SLICE_BYTES, lengthBytes - offset))
  }
  return pages * MINCORE_PAGE_BYTES
}

function residentPages(region: MemoryRegion, offset: number, lengthBytes: number): number {
  let pages = 0
  for (const isResident of region.mincore(offset, lengthBytes)) pages += isResident
  return pages
}

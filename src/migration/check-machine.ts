/** Checks a machine that the user passes in, before anything begins. */
import { MachineError, PostcopyError } from '../errors.js'
import { MemoryRegion, PageFile, type PageMemory } from '../kernel/index.js'
import { bytesOfName, PageBitmap } from '../ram/index.js'
import { TARGET_PAGE_SIZE } from '../units.js'
import type { PageSourceBlock } from '../sources/index.js'
import { isInMemory, type MachineBlock, type MigratableMachine, type RamRange } from './machine.js'

const MOST_NAME_BYTES = 255
const MOST_UINT32 = 2 ** 32 - 1

const synchronous = [
  'start',
  'saveDevices',
  'loadDevice',
  'resumeAfterLoad',
  'vcpuThreadIds',
] as const
const optional = ['finishLoading', 'loadOpaque', 'checkConfiguration'] as const

/**
 * @throws PostcopyError `ERR_INVALID_MACHINE`, `ERR_INVALID_BLOCK`; MachineError for a hook that
 *   must be synchronous and is an async function
 */
export function checkMachine(machine: MigratableMachine): void {
  if (typeof machine !== 'object' || (machine as unknown) === null) throw invalid('not an object')
  const { machineType, configuration, earlySections, ramSectionId, blocks, loadRanges } = machine
  if (typeof machineType !== 'string') throw invalid('machineType is not a string')
  if (configuration !== undefined && !(configuration instanceof Uint8Array)) {
    throw invalid('configuration is not a Uint8Array')
  }
  if (earlySections !== undefined && !(earlySections instanceof Uint8Array)) {
    throw invalid('earlySections is not a Uint8Array')
  }
  if (ramSectionId !== undefined && !isCount(ramSectionId, MOST_UINT32)) {
    throw invalid('ramSectionId is not a whole number of 32 bits')
  }
  checkHooks(machine)
  if (!isArray(blocks)) throw invalid('blocks is not an array')
  const names = new Set<string>()
  for (const block of blocks) {
    checkBlock(block)
    if (names.has(block.name)) throw badBlock(block.name, 'there is another block of this name')
    names.add(block.name)
  }
  for (const range of loadRanges ?? []) checkRange(range, blocks)
}

function checkHooks(machine: MigratableMachine): void {
  const all = [...synchronous, 'stop' as const, ...optional.filter((hook) => hook in machine)]
  for (const hook of all) {
    const value = Reflect.get(machine, hook) as unknown
    const isLeftOut = value === undefined && optional.some((name) => name === hook)
    if (isLeftOut) continue
    if (typeof value !== 'function') throw invalid(`${hook} is not a function`)
    if (hook !== 'stop' && value.constructor.name === 'AsyncFunction') {
      const text =
        'is an async function, but must be synchronous: the migration does not wait for a promise'
      throw new MachineError(hook, text)
    }
  }
}

function checkBlock(block: MachineBlock | PageSourceBlock): void {
  const { name, lengthBytes, pageSizeBytes } = block
  if (typeof name !== 'string')
    throw invalid(`the name of a block is ${String(name)}, not a string`)
  const nameBytes = bytesOfName(name).length
  if (nameBytes < 1 || nameBytes > MOST_NAME_BYTES) {
    throw badBlock(name, `its name has ${nameBytes} bytes, not 1 to ${MOST_NAME_BYTES}`)
  }
  const memory = memoryOf(block)
  if (memory.isClosed) throw badBlock(name, 'its region was closed')
  const pageSize = pageSizeBytes ?? memory.pageSizeBytes
  if (!isCount(pageSize) || pageSize === 0 || pageSize % memory.pageSizeBytes !== 0) {
    throw badBlock(
      name,
      `pages of ${pageSize} bytes are not whole pages of ${memory.pageSizeBytes}`,
    )
  }
  if (!isCount(lengthBytes) || lengthBytes === 0 || lengthBytes % pageSize !== 0) {
    throw badBlock(name, `its length of ${lengthBytes} bytes is not whole pages of ${pageSize}`)
  }
  if (lengthBytes > memory.lengthBytes) {
    throw badBlock(
      name,
      `its ${lengthBytes} bytes are more than its region's ${memory.lengthBytes}`,
    )
  }
  if (isInMemory(block)) return
  const { data, available } = block
  const pages = lengthBytes / TARGET_PAGE_SIZE
  for (const [key, bitmap] of Object.entries({ data, ...(available && { available }) })) {
    if (bitmap instanceof PageBitmap && bitmap.pageCount === pages) continue
    throw badBlock(name, `${key} is not a PageBitmap of its ${pages} target pages`)
  }
}

function memoryOf(block: MachineBlock | PageSourceBlock): PageMemory {
  const memory: unknown = isInMemory(block) ? block.region : block.pages
  if (memory instanceof MemoryRegion || memory instanceof PageFile) return memory
  throw badBlock(block.name, 'its region is not a MemoryRegion')
}

function checkRange(
  { block: name, offset, lengthBytes }: RamRange,
  blocks: MigratableMachine['blocks'],
): void {
  const block = blocks.find((candidate) => candidate.name === name)
  const isInside =
    isCount(offset) && isCount(lengthBytes) && offset + lengthBytes <= (block?.lengthBytes ?? 0)
  const isWhole = offset % TARGET_PAGE_SIZE === 0 && lengthBytes % TARGET_PAGE_SIZE === 0
  if (isInside && isWhole) return
  throw invalid(
    `loadRanges names ${lengthBytes} bytes at ${offset} of "${name}", which are not whole target pages of a block`,
  )
}

/** As `Array.isArray`, without its `any`. */
function isArray(value: unknown): value is readonly unknown[] {
  return Array.isArray(value)
}

function isCount(value: unknown, most = Number.MAX_SAFE_INTEGER): value is number {
  return Number.isSafeInteger(value) && Number(value) >= 0 && Number(value) <= most
}

function invalid(text: string): PostcopyError {
  return new PostcopyError('ERR_INVALID_MACHINE', `not a machine that can be migrated: ${text}`)
}

function badBlock(name: string, text: string): PostcopyError {
  return new PostcopyError('ERR_INVALID_BLOCK', `RAM block ${JSON.stringify(name)}: ${text}`)
}

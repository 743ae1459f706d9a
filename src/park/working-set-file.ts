/**
 * The file of a working set: the pages of a parked VM, in the order in which its clones requested
 * them, as JSON.
 *
 * ```
 * format, formatVersion   "postcopy-working-set", 1
 * parkedVm                identifies the VM, see identityOf
 * pageSizeBytes           4096: the unit of first and count below
 * pageCount               in all runs
 * blocks                  name and lengthBytes of each, as in the manifest
 * runs                    index of the block, first page, count, repeated; no page twice
 * ```
 */
import { PostcopyError } from '../errors.js'
import { MOST_RUNS, PageOrder } from '../ram/index.js'
import { TARGET_PAGE_SIZE } from '../units.js'
import { sha256 } from './checksum.js'
import { type UntrustedFields, parseFields } from './fields.js'
import type { Manifest, ParkedBlock } from './manifest.js'

/** The part of a VM that its working set depends on. */
export interface VmRecord extends Pick<Manifest, 'parkedAt' | 'machineType'> {
  readonly devices: Pick<Manifest['devices'], 'sha256'>
  readonly blocks: readonly Pick<ParkedBlock, 'name' | 'lengthBytes' | 'checksum'>[]
}

export const WORKING_SET_FILE = 'working-set'
/** More than `MOST_RUNS` runs need. */
export const MOST_FILE_BYTES = 32 * 2 ** 20
const FORMAT = 'postcopy-working-set'
const FORMAT_VERSION = 1
const RUN_NUMBERS = 3

/** The same for all copies of a parked VM, and different for all others, parked at other times. */
export function identityOf({ parkedAt, machineType, devices, blocks }: VmRecord): string {
  const sums = blocks.map(({ name, lengthBytes, checksum }) => [name, lengthBytes, checksum])
  return sha256(Buffer.from(JSON.stringify([parkedAt, machineType, devices.sha256, sums])))
}

export function encodeWorkingSet(order: PageOrder, manifest: VmRecord): Uint8Array {
  const whole = {
    format: FORMAT,
    formatVersion: FORMAT_VERSION,
    parkedVm: identityOf(manifest),
    pageSizeBytes: TARGET_PAGE_SIZE,
    pageCount: order.pageCount,
    blocks: manifest.blocks.map(({ name, lengthBytes }) => ({ name, lengthBytes })),
    runs: order.toArray(),
  }
  return Buffer.from(`${JSON.stringify(whole)}\n`)
}

/**
 * Parses an untrusted working set.
 *
 * @param manifest - of the VM to which it must belong
 * @throws PostcopyError `ERR_WORKING_SET_FORMAT` if it is not a valid working set,
 *   `ERR_WORKING_SET_VERSION` for one of a later postcopy, `ERR_WORKING_SET_FOREIGN` for another
 *   VM's
 */
export function decodeWorkingSet(text: string, path: string, manifest: VmRecord): PageOrder {
  const fields = parseFields(text, path, 'ERR_WORKING_SET_FORMAT')
  if (fields.raw('format') !== FORMAT) fields.refuse('format', `"${FORMAT}"`)
  const version = fields.count('formatVersion')
  if (version > FORMAT_VERSION) {
    throw new PostcopyError(
      'ERR_WORKING_SET_VERSION',
      `${path} has format version ${version}, but this postcopy supports version ${FORMAT_VERSION}: use a newer postcopy`,
    )
  }
  if (fields.text('parkedVm') !== identityOf(manifest)) {
    throw new PostcopyError(
      'ERR_WORKING_SET_FOREIGN',
      `${path} is the working set of another parked VM: give another file`,
    )
  }
  if (fields.count('pageSizeBytes') !== TARGET_PAGE_SIZE) {
    fields.refuse('pageSizeBytes', String(TARGET_PAGE_SIZE))
  }
  checkBlocks(fields, manifest)
  const order = decodeRuns(fields.raw('runs'), path, manifest)
  if (fields.count('pageCount') !== order.pageCount) {
    fields.refuse('pageCount', `${order.pageCount}, the number of pages in its runs`)
  }
  return order
}

/** Checks the list of blocks, because runs refer to blocks by their index in it. */
function checkBlocks(fields: UntrustedFields, manifest: VmRecord): void {
  const found = fields.objects('blocks')
  const isSame =
    found.length === manifest.blocks.length &&
    manifest.blocks.every(({ name, lengthBytes }, index) => {
      const block = found[index]
      return block?.raw('name') === name && block.raw('lengthBytes') === lengthBytes
    })
  if (!isSame) fields.refuse('blocks', 'those of the manifest')
}

function decodeRuns(runs: unknown, path: string, { blocks }: VmRecord): PageOrder {
  const refuse = (what: string): never => {
    throw new PostcopyError('ERR_WORKING_SET_FORMAT', `${path}: ${what}`)
  }
  if (!Array.isArray(runs) || runs.length % RUN_NUMBERS !== 0) {
    return refuse('runs must be a list of three numbers each')
  }
  if (runs.length > MOST_RUNS * RUN_NUMBERS) return refuse(`it has more than ${MOST_RUNS} runs`)
  const numbers: readonly unknown[] = runs
  const order = new PageOrder(blocks)
  let pageCount = 0
  for (let at = 0; at < numbers.length; at += RUN_NUMBERS) {
    const [block, first, count] = numbers.slice(at, at + RUN_NUMBERS)
    const run = `run ${at / RUN_NUMBERS}`
    if (!isCount(block) || !isCount(first) || !isCount(count))
      return refuse(`${run} is not three numbers`)
    const lengthBytes = blocks[block]?.lengthBytes
    if (lengthBytes === undefined)
      return refuse(`${run} is in block ${block}, which does not exist`)
    if (count === 0 || first + count > lengthBytes / TARGET_PAGE_SIZE) {
      return refuse(`${run} (pages ${first} + ${count}) is outside its block`)
    }
    order.add(block, first, first + count)
    pageCount += count
  }
  return pageCount === order.pageCount ? order : refuse('its runs overlap')
}

function isCount(value: unknown): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0
}

/** What both ends must agree on before any RAM is sent. */
import { PeerError } from '../errors.js'
import { RamBlock } from '../ram/index.js'
import type { RamBlockInfo } from '../stream/index.js'
import { TARGET_PAGE_SIZE, hex } from '../units.js'
import type { DestinationBlock } from './block.js'

/** @throws PeerError `ERR_PEER_MACHINE` */
export function checkMachineType(theirs: string, own: string): void {
  if (theirs === own) return
  throw new PeerError('ERR_PEER_MACHINE', `the source is a "${theirs}", this machine is a "${own}"`)
}

/**
 * Checks that both ends mean the same pages.
 *
 * @throws PeerError `ERR_PEER_PAGE_SIZE`
 */
export function checkPageSizes(
  blocks: readonly DestinationBlock[],
  summary: number | undefined,
  targetPageSize: number | undefined,
): void {
  const own = RamBlock.pageSizeSummary(blocks.map(({ block }) => block))
  if (summary === own && targetPageSize === TARGET_PAGE_SIZE) return
  throw new PeerError(
    'ERR_PEER_PAGE_SIZE',
    `page sizes differ: the source has ${orNone(summary)} with target pages of ${String(targetPageSize)}, this end has ${hex(own)} with ${TARGET_PAGE_SIZE}`,
  )
}

/** @throws PeerError `ERR_PEER_BLOCK` with the first block that differs between the two ends */
export function checkBlocks(
  blocks: readonly DestinationBlock[],
  announced: readonly RamBlockInfo[],
): void {
  for (const { name, usedLengthBytes } of announced) {
    const { block } = findBlock(blocks, name)
    if (usedLengthBytes !== block.lengthBytes) {
      throw new PeerError(
        'ERR_PEER_BLOCK',
        `RAM block "${name}" has ${usedLengthBytes} bytes at the source and ${block.lengthBytes} here`,
      )
    }
  }
  const names = new Set(announced.map(({ name }) => name))
  const absent = blocks.find(({ block }) => !names.has(block.name))
  if (absent !== undefined) {
    throw new PeerError('ERR_PEER_BLOCK', `the source has no RAM block "${absent.block.name}"`)
  }
}

/** @throws PeerError `ERR_PEER_BLOCK` */
export function findBlock(blocks: readonly DestinationBlock[], name: string): DestinationBlock {
  const target = blocks.find(({ block }) => block.name === name)
  if (target === undefined) throw new PeerError('ERR_PEER_BLOCK', `no RAM block "${name}" here`)
  return target
}

/** @param text - which end has the capability */
export function capabilityMismatch(text: string): PeerError {
  return new PeerError('ERR_PEER_CAPABILITY', `${text}: set it to the same value on both ends`)
}

function orNone(value: number | undefined): string {
  return value === undefined ? 'none' : hex(value)
}

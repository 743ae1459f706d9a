import { TARGET_PAGE_SIZE, hex } from '../units.js'
import { refuse } from './errors.js'
import { decodeName, encodeName } from './names.js'
import type { RamBlockInfo } from './types.js'

/** The RAM blocks of a stream. Finds a block by the bytes of its name without making a string. */
export class RamBlockTable {
  /** Blocks are only added. */
  readonly blocks: RamBlockInfo[] = []
  /** The bytes of the block names, by index. */
  readonly #names: Uint8Array[] = []

  constructor(blocks: Iterable<RamBlockInfo> = []) {
    this.blocks.push(...blocks)
  }

  get(name: string): RamBlockInfo | undefined {
    return this.blocks.find((block) => block.name === name)
  }

  /** The block whose name is `bytes[start..end)`. */
  at(bytes: Uint8Array, start: number, end: number, streamOffset: number): RamBlockInfo {
    for (const [index, block] of this.blocks.entries()) {
      const name = (this.#names[index] ??= encodeName(block.name))
      if (isName(name, bytes, start, end)) return block
    }
    const name = decodeName(bytes, start, end)
    return refuse('block', `no RAM block "${name}" was announced`, streamOffset)
  }

  /** Returns the block called `name`, or throws an error that begins with `what`. */
  demand(name: string, what: string, streamOffset: number): RamBlockInfo {
    return (
      this.get(name) ??
      refuse('block', `${what}: no RAM block "${name}" was announced`, streamOffset)
    )
  }
}

/** Rejects a range that is empty, unaligned, or not inside its block. */
export function checkRange(
  what: string,
  block: RamBlockInfo,
  start: number,
  lengthBytes: number,
  alignment: number,
  streamOffset: number,
): void {
  const range = `${what}: block "${block.name}", ${hex(start)} + ${hex(lengthBytes)}`
  if (lengthBytes === 0) refuse('range', `${range} is empty`, streamOffset)
  if (start % alignment !== 0 || lengthBytes % alignment !== 0) {
    refuse('range', `${range} is not aligned to ${alignment}`, streamOffset)
  }
  if (start + lengthBytes > block.usedLengthBytes) {
    const used = hex(block.usedLengthBytes)
    refuse('range', `${range} is outside the block's ${used} bytes`, streamOffset)
  }
}

/** Target pages of a block. */
export function pageCountOf(block: RamBlockInfo): number {
  return Math.ceil(block.usedLengthBytes / TARGET_PAGE_SIZE)
}

function isName(name: Uint8Array, bytes: Uint8Array, start: number, end: number): boolean {
  if (name.length !== end - start) return false
  for (let i = 0; i < name.length; i += 1) {
    if (name[i] !== bytes[start + i]) return false
  }
  return true
}

import { PostcopyError } from '../errors.js'

/** @throws PostcopyError `ERR_INVALID_BLOCK` for a block that does not exist, or not whole pages */
export function checkPageSizes(
  blocks: readonly { readonly name: string; readonly lengthBytes: number }[],
  pageSizes: ReadonlyMap<string, number>,
): void {
  for (const [name, bytes] of pageSizes) {
    const block = blocks.find((candidate) => candidate.name === name)
    const isFit = bytes >= 4096 && Number.isInteger(Math.log2(bytes))
    if (block !== undefined && isFit && block.lengthBytes % bytes === 0) continue
    const names = blocks.map((candidate) => candidate.name).join(', ')
    const text = `"${name}" cannot have pages of ${bytes} bytes: the blocks are ${names}`
    throw new PostcopyError('ERR_INVALID_BLOCK', text)
  }
}

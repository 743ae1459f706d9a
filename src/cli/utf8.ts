/** Paths on the command line: Node decodes them as UTF-8 and loses all other bytes. */
import { PostcopyError } from '../errors.js'
import { printable } from '../printable.js'

/** @throws PostcopyError `ERR_USAGE` for a word with bytes that were not UTF-8 */
export function utf8(word: string, name: string): string {
  if (!word.includes('\ufffd')) return word
  throw new PostcopyError(
    'ERR_USAGE',
    `${name}: "${printable(word)}" has bytes that are not UTF-8, which Node cannot pass on: use a link with another name`,
  )
}

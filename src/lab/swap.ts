/** A swap file that exists during an experiment. */
import { closeSync, fsyncSync, openSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import type { Lab } from './lab.js'
import { cString, outcomeName, syscall } from '../host/index.js'

const pageBytes = 4096
const pages = 2048

/**
 * Turns swap on, in the scratch folder; the parent turns it off. Ends the experiment if it cannot.
 */
export function swapOn(lab: Lab): void {
  const path = join(lab.scratch, 'swap')
  const fd = openSync(path, 'w', 0o600)
  // The header of mkswap(8): version, last page, no bad pages, and the signature at the page's
  // end.
  const header = Buffer.alloc(pageBytes)
  header.writeUInt32LE(1, 1024)
  header.writeUInt32LE(pages - 1, 1028)
  header.write('SWAPSPACE2', pageBytes - 10, 'latin1')
  // Written in full, because a swap file must not have holes.
  const file = Buffer.alloc(pages * pageBytes)
  header.copy(file)
  writeSync(fd, file)
  fsyncSync(fd)
  closeSync(fd)
  const outcome = outcomeName(syscall('swapon', cString(path), 0))
  if (outcome !== 'ok') lab.notPossible(`swapon of a file in ${lab.scratch}: ${outcome}`)
}

/** Takes files out of the page cache. */
import { closeSync, fsyncSync, openSync } from 'node:fs'
import { runProgram } from '../../src/testing/run-program.js'

/** Writes the file to disk and drops its pages. dd(1) has posix_fadvise(2), which Node lacks. */
export async function dropFromCache(path: string): Promise<void> {
  const fd = openSync(path, 'r+')
  fsyncSync(fd)
  closeSync(fd)
  const end = await runProgram(['dd', `if=${path}`, 'iflag=nocache', 'count=0', 'status=none'])
  if (end.status !== 0) throw new Error(`dd: ${end.stderr}`)
}

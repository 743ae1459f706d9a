/** Programs that take the place of real ones, until the end of the test. */
import { chmodSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { temporaryFolder } from '../cli/support.js'
import { cleanups } from './cleanup.js'

/**
 * Puts a shell script first on PATH, also for workers that start later.
 *
 * @param script - the lines after `#!/bin/sh`
 */
export async function fakeProgram(name: string, script: string): Promise<void> {
  const folder = await temporaryFolder()
  const path = join(folder, name)
  writeFileSync(path, `#!/bin/sh\n${script}\n`)
  chmodSync(path, 0o755)
  const { PATH = '' } = process.env
  process.env['PATH'] = `${folder}:${PATH}`
  cleanups.add(() => (process.env['PATH'] = PATH))
}

/** The command to run if a file built from `native/` is missing or has another version. */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { packageRoot } from './package-info.js'

/**
 * A clone of the repository has `npm run build`; an installed package has only an `install` script.
 *
 * @param again - remove the earlier build first, because otherwise nothing would be rebuilt
 */
export function buildAdvice(again = false): string {
  if (process.env['POSTCOPY_NATIVE_DIR'] !== undefined) {
    return 'POSTCOPY_NATIVE_DIR names this folder: build there, or unset the variable'
  }
  const command = existsSync(join(packageRoot, 'scripts/prepare.mjs'))
    ? `${again ? 'npm run clean && ' : ''}npm run build`
    : `${again ? 'rm -r build && ' : ''}npm run install`
  return `run "${command}" in ${packageRoot}`
}

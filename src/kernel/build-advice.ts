/** What to run where a file that is built from `native/` is missing, or is not of this version. */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { packageRoot } from './package-info.js'

/**
 * The command depends on what this package is: a clone has `npm run build`; an installed package has
 * only its `install` script.
 *
 * @param again - something was built already, so that a build would find nothing to do
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

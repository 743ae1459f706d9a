/** The location of the files of this package, and its name and version. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'

/** From `dist/src/kernel` to the root of the package; a bundled worker has the URL of `dist/src/ROOM`. */
export const packageRoot = fileURLToPath(new URL('../../..', import.meta.url))

export interface PackageInfo {
  readonly name: string
  readonly version: string
}

let known: PackageInfo | undefined

export function packageInfo(): PackageInfo {
  const path = join(packageRoot, 'package.json')
  known ??= JSON.parse(readFileSync(path, 'utf8')) as PackageInfo
  return known
}

/** Entry files of processes and workers; `scripts/bundle.mjs` bundles them, so that they start faster. */
export type BundledEntry =
  'cli/main' | 'source/worker' | 'destination/worker' | 'park/worker' | 'park/spill-worker'

export function bundledEntry(entry: BundledEntry): URL {
  return pathToFileURL(join(packageRoot, 'dist/bundle', `${entry}.js`))
}

/** A compiled module that is not bundled, because it loads other modules by name. */
export function compiledModule(path: `${string}.js`): URL {
  return pathToFileURL(join(packageRoot, 'dist/src', path))
}

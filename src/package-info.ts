/** The name and version of this package, from its package.json. */
import { readFileSync } from 'node:fs'

export interface PackageInfo {
  readonly name: string
  readonly version: string
}

let known: PackageInfo | undefined

export function packageInfo(): PackageInfo {
  const path = new URL('../../package.json', import.meta.url)
  known ??= JSON.parse(readFileSync(path, 'utf8')) as PackageInfo
  return known
}

/** Which QMP server this is. */
import { readFileSync } from 'node:fs'

export interface VersionInfo {
  /** QMP has one name for it; the numbers are this package's. */
  qemu: { major: number; minor: number; micro: number }
  package: string
}

let known: VersionInfo | undefined

export function versionInfo(): VersionInfo {
  known ??= read()
  return known
}

function read(): VersionInfo {
  const path = new URL('../../../../package.json', import.meta.url)
  const { name, version } = JSON.parse(readFileSync(path, 'utf8')) as {
    name: string
    version: string
  }
  const [major = 0, minor = 0, micro = 0] = version.split(/[.-]/).map(Number)
  return { qemu: { major, minor, micro }, package: `${name} ${version}` }
}

/** The version of this QMP server. */
import { packageInfo } from '../../kernel/internal.js'

export interface VersionInfo {
  /** QMP has only this name; the numbers are this package's. */
  qemu: { major: number; minor: number; micro: number }
  package: string
}

export function versionInfo(): VersionInfo {
  const { name, version } = packageInfo()
  const [major = 0, minor = 0, micro = 0] = version.split(/[.-]/).map(Number)
  return { qemu: { major, minor, micro }, package: `${name} ${version}` }
}

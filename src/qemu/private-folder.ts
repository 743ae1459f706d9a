/** A folder for sockets and logs that only this user can enter. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { PostcopyError, errorToRecord } from '../errors.js'
import { formatUri, unixUri } from '../net/index.js'

/** The longest name of a socket in it. */
const LONGEST = 'migration'

export class PrivateFolder {
  readonly path: string

  /** @throws PostcopyError `ERR_INVALID_URI` if TMPDIR is too long for a socket; the errno name */
  static create(): PrivateFolder {
    const parent = tmpdir()
    unixUri(join(parent, 'postcopy-XXXXXX', LONGEST))
    try {
      // mkdtemp(3) makes it with the mode 0700.
      return new PrivateFolder(mkdtempSync(join(parent, 'postcopy-')))
    } catch (error) {
      const { code } = errorToRecord(error)
      throw new PostcopyError(code, `no folder can be made in ${parent} (${code}): set TMPDIR`)
    }
  }

  private constructor(path: string) {
    this.path = path
  }

  file(name: string): string {
    return join(this.path, name)
  }

  uri(name: string): string {
    return formatUri(unixUri(this.file(name)))
  }

  /** May be called twice. */
  remove(): void {
    rmSync(this.path, { recursive: true, force: true })
  }
}

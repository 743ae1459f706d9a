/** Says once, on stderr, that guest memory can be read on its way. */
import type { Migration } from '../migration/migration.js'

export class InClearWarning {
  readonly #out: NodeJS.WritableStream
  #hasWarned = false

  constructor(out: NodeJS.WritableStream = process.stderr) {
    this.#out = out
  }

  /** Warns where it applies to this end of a migration. */
  look(migration: Migration | undefined): void {
    if (this.#hasWarned || migration?.inClear !== true) return
    this.#hasWarned = true
    this.#out.write(
      'postcopy: warning: guest memory crosses the network unencrypted, and anybody there may ' +
        'connect; --tls-creds protects it (docs/security.md)\n',
    )
  }
}

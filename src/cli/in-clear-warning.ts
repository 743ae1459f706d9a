/** Warns once, on stderr, that guest memory is sent in plaintext. */
import type { Migration } from '../migration/index.js'
import { output } from './output.js'

export class InClearWarning {
  #hasWarned = false

  /** Warns if this end of a migration is plaintext. */
  look(migration: Migration | undefined): void {
    if (this.#hasWarned || migration?.isPlaintext !== true) return
    this.#hasWarned = true
    output.note(
      'warning: guest memory crosses the network unencrypted, and any host there may ' +
        'connect; --tls-creds protects it (docs/security.md)',
    )
  }
}

/** A process that does one migration and nothing else, as QMP sees it: parking, resuming. */
import type { Migration, MigrationState } from '../../migration/index.js'
import type { QmpControl, QmpTarget } from './target.js'

/**
 * Tells of the migration's states and passes, without a capability to ask for them.
 *
 * @param control - what a client can do with it; for the `SHUTDOWN` that follows from `quit`,
 *   see `QmpServer.close`
 */
export function migrationTarget(migration: Migration, control: QmpControl): QmpTarget {
  return {
    control,
    listen: (tell) => {
      const tellState = (status: MigrationState): void =>
        tell({ event: 'MIGRATION', data: { status } })
      const tellPass = (pass: number): void => tell({ event: 'MIGRATION_PASS', data: { pass } })
      migration.on('state', tellState)
      migration.on('dirty-sync', tellPass)
      return () => {
        migration.off('state', tellState)
        migration.off('dirty-sync', tellPass)
      }
    },
  }
}

/** A process with a single migration for QMP: parking, resuming. */
import type { Migration, MigrationState } from '../../migration/index.js'
import type { QmpControl, QmpTarget } from './target.js'

/**
 * Sends the migration's states and passes as events, without requiring the capability `events`.
 *
 * @param control - the functions for clients; for the `SHUTDOWN` that follows from `quit`, see
 *   `QmpServer.close`
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

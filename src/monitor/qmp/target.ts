/** What a QMP server can control: a guest process, or another process that migrates. */
import type { ParameterValue } from '../../migration/index.js'
import type { MigrationInfo } from '../query-migrate.js'
import type { StatusInfo } from '../guest-presence.js'

/**
 * The functions that implement the commands, with the names of `Monitor`, which has all of them. A
 * missing function removes its command. An error that it throws is sent to the client.
 */
export interface QmpControl {
  /** `query-status` */
  queryStatus(): StatusInfo
  /** `query-migrate` */
  queryMigrate(): MigrationInfo
  /** `quit`. Asks the process to end; the answer is still sent, see `QmpServer.close`. */
  quit(options: { force: boolean }): void
  stop?(): Promise<void> | void
  cont?(options: { force: boolean }): Promise<void> | void
  /** `migrate`: returns when the migration has begun. */
  migrate?(uri: string): Promise<void> | void
  /** `migrate` with `resume`: returns when the recovery has begun. */
  resumeMigration?(uri: string): Promise<void>
  /** `migrate-recover`: returns when it listens. */
  migrateRecover?(uri: string): Promise<unknown>
  /** `migrate-incoming`: returns when it listens. */
  migrateIncoming?(uri: string): Promise<unknown>
  /** `migrate-start-postcopy` */
  startPostcopy?(): void
  /** `migrate_cancel` */
  cancel?(): void
  /** `migrate-pause` */
  pause?(): void
  /** `query-migrate-capabilities`, whose names `migrate-set-capabilities` takes. */
  queryCapabilities?(): Readonly<Record<string, boolean>>
  /** Sets all of them or none. */
  setCapabilities?(wanted: Readonly<Record<string, boolean>>): Promise<void> | void
  /** `query-migrate-parameters`, whose names `migrate-set-parameters` takes. */
  queryParameters?(): Readonly<Record<string, ParameterValue>>
  /** Sets all of them or none. */
  setParameters?(wanted: Readonly<Record<string, ParameterValue>>): Promise<void> | void
}

/** Why a process ends, by QEMU's names. */
export type ShutdownReason = 'host-qmp-quit' | 'host-signal' | 'host-error' | 'guest-shutdown'

export type QmpEvent =
  | { readonly event: 'STOP' | 'RESUME' }
  | { readonly event: 'MIGRATION'; readonly data: { readonly status: string } }
  | { readonly event: 'MIGRATION_PASS'; readonly data: { readonly pass: number } }
  | {
      readonly event: 'SHUTDOWN'
      readonly data: { readonly guest: boolean; readonly reason: ShutdownReason }
    }

export interface QmpTarget {
  readonly control: QmpControl
  /** Calls `tell` once for each event from now on. @returns stops that */
  listen(tell: (event: QmpEvent) => void): () => void
}

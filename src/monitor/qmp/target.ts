/** What a QMP server can be put on: a guest process, and whatever else migrates. */
import type { ParameterValue } from '../../migration/index.js'
import type { MigrationInfo } from '../query-migrate.js'
import type { StatusInfo } from '../guest-presence.js'

/**
 * The functions behind the commands, in the words of `Monitor`, which has all of them. A function
 * that is not there has no command either. What one throws is the client's answer.
 */
export interface QmpControl {
  /** `query-status` */
  queryStatus(): StatusInfo
  /** `query-migrate` */
  queryMigrate(): MigrationInfo
  /** `quit`. Asks for the end; the answer is still sent, see `QmpServer.close`. */
  quit(options: { force: boolean }): void
  stop?(): Promise<void> | void
  cont?(options: { force: boolean }): Promise<void> | void
  /** `migrate`: returns when it has begun. */
  migrate?(uri: string): Promise<void> | void
  /** `migrate` with `resume`: returns when it has begun. */
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
  /** All of them or none. */
  setCapabilities?(wanted: Readonly<Record<string, boolean>>): Promise<void> | void
  /** `query-migrate-parameters`, whose names `migrate-set-parameters` takes. */
  queryParameters?(): Readonly<Record<string, ParameterValue>>
  /** All of them or none. */
  setParameters?(wanted: Readonly<Record<string, ParameterValue>>): Promise<void> | void
}

/** Why a process ends, in QEMU's words. */
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
  /** Tells of each event from now on, once. @returns ends that */
  listen(tell: (event: QmpEvent) => void): () => void
}

/** Messages between the main thread and the park worker. */
import type { ErrorRecord } from '../errors.js'
import type { MigrationState, Parameters } from '../migration/index.js'
import type { MigrationUri, TlsCredentials } from '../net/index.js'
import type { Manifest } from './manifest.js'

/** Where the stream comes from: a migration, or a file. */
export type ParkOrigin = { readonly uri: MigrationUri } | ParkFile

export interface ParkFile {
  readonly file: string
  /** Where the saved VM is in the file. */
  readonly offset?: number
  readonly snapshot?: string
  readonly memory?: ReadonlyMap<string, string>
}

export interface ParkWorkerData {
  readonly origin: ParkOrigin
  /** Undefined: plaintext, or a file. */
  readonly tls: TlsCredentials | undefined
  /** The directory to create; for a recovery, `DIR.incomplete`. */
  readonly directory: string
  readonly isRecovery: boolean
  readonly allowForeignDirectory: boolean
  readonly parameters: Parameters
  readonly counters: SharedArrayBuffer
}

/** To the worker. */
export interface ParkRequest {
  readonly type: 'stop'
  /** The reason. */
  readonly error: ErrorRecord
}

/** From the worker. */
export type ParkNotice =
  | { readonly type: 'listening'; readonly uri: MigrationUri }
  /** A peer was rejected. */
  | { readonly type: 'refused'; readonly error: ErrorRecord }
  | { readonly type: 'state'; readonly state: MigrationState; readonly error?: ErrorRecord }
  | { readonly type: 'parked'; readonly manifest: Manifest }
  /** The migration is paused, and `DIR.incomplete` has every page. */
  | { readonly type: 'kept-whole' }

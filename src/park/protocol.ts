/** What the main thread and the worker that parks say to each other. */
import type { ErrorRecord } from '../errors.js'
import type { MigrationState, Parameters } from '../migration/index.js'
import type { MigrationUri, TlsCredentials } from '../net/index.js'
import type { Manifest } from './manifest.js'

/** Where the stream comes from: a migration, or a file. */
export type ParkOrigin = { readonly uri: MigrationUri } | { readonly file: string }

export interface ParkWorkerData {
  readonly origin: ParkOrigin
  /** Undefined: in clear, or a file. */
  readonly tls: TlsCredentials | undefined
  /** To be made; `DIR.incomplete` for a recovery. */
  readonly directory: string
  readonly isRecovery: boolean
  readonly allowForeignDirectory: boolean
  readonly parameters: Parameters
  readonly counters: SharedArrayBuffer
}

/** To the worker. */
export interface ParkRequest {
  readonly type: 'stop'
  /** Why. */
  readonly error: ErrorRecord
}

/** From the worker. */
export type ParkNotice =
  | { readonly type: 'listening'; readonly uri: MigrationUri }
  /** A peer that was not let in. */
  | { readonly type: 'refused'; readonly error: ErrorRecord }
  | { readonly type: 'state'; readonly state: MigrationState; readonly error?: ErrorRecord }
  | { readonly type: 'parked'; readonly manifest: Manifest }
  /** It is paused, and `DIR.incomplete` has every page. */
  | { readonly type: 'kept-whole' }

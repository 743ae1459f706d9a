/** Messages between the main thread and the source's worker. */
import type { ErrorRecord } from '../errors.js'
import type {
  Capabilities,
  MigratableMachine,
  MigrationState,
  Parameters,
  RamRange,
} from '../migration/index.js'
import type { MigrationUri, TlsClient } from '../net/index.js'
import type { RamBlockDescriptor } from '../ram/index.js'

/** Bitmaps that outlive a worker, so that the next one can continue. */
export type SharedSourceBlock = RamBlockDescriptor & {
  /** The pages not sent yet, or changed since. */
  readonly dirty: Uint8Array
  /** The pages owed when postcopy handed the guest over; empty before. */
  readonly owed: Uint8Array
  /** The pages that may hold anything but zeros; those of memory are found before the switch. */
  readonly data: Uint8Array
  /** Zero pages that are owed, but sent only on request. */
  readonly leftOut: Uint8Array
  /** The pages that the destination had at the last recovery. */
  readonly confirmed: Uint8Array
  /**
   * Undefined: all pages are here. Otherwise those that are here, if a source has lost the others.
   */
  readonly available: Uint8Array | undefined
}

export interface SourceWorkerData {
  readonly uri: MigrationUri
  /** Undefined: plaintext. */
  readonly tls: TlsClient | undefined
  readonly machineType: string
  readonly configuration: Uint8Array | undefined
  readonly earlySections: Uint8Array | undefined
  readonly ramSectionId: number | undefined
  readonly blocks: readonly SharedSourceBlock[]
  readonly loadRanges: readonly RamRange[]
  readonly capabilities: Capabilities
  readonly parameters: Parameters
  readonly dirtyLog: DirtyLogChoice
  readonly postcopyAtOnce: boolean
  /** The buffer of a `PageOrder` over the blocks; it outlives a worker. */
  readonly pageOrder: SharedArrayBuffer | undefined
  /** Continues a migration that is `postcopy-paused`. */
  readonly isRecovery: boolean
  readonly counters: SharedArrayBuffer
  /** The buffer of a `Handover`. */
  readonly handover: SharedArrayBuffer
}

/** `none` is for memory that is not written while it is sent. */
export type DirtyLogChoice = 'auto' | 'async' | 'sync' | 'none'

export type SavedDevices = ReturnType<MigratableMachine['saveDevices']>

/** To the worker. */
export type SourceRequest =
  | { readonly type: 'start-postcopy' }
  | { readonly type: 'cancel' }
  | { readonly type: 'pause' }
  | { readonly type: 'set-parameters'; readonly parameters: Parameters }
  | { readonly type: 'guest-stopped'; readonly devices: SavedDevices }
  | { readonly type: 'guest-not-stopped'; readonly error: ErrorRecord }

/** From the worker. */
export type SourceNotice =
  | { readonly type: 'state'; readonly state: MigrationState; readonly error?: ErrorRecord }
  /** The dirty log was read for the `pass`th time; the pages it found are sent next. */
  | { readonly type: 'pass'; readonly pass: number }
  | { readonly type: 'stop-guest' }
  | { readonly type: 'resume-guest' }

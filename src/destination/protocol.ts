/** Messages between the main thread and the destination's worker. */
import type { ErrorRecord } from '../errors.js'
import type { Capabilities, MigrationState, Parameters } from '../migration/index.js'
import type { MigrationUri, TlsCredentials } from '../net/index.js'
import type { RamBlockDescriptor } from '../ram/index.js'
import type { RamBlockInfo } from '../stream/index.js'
import type { SharedFaultLog } from './fault-log.js'

/** Bitmaps that outlive the worker, so that another one can continue. */
export type SharedBlock = RamBlockDescriptor & {
  readonly received: Uint8Array
  readonly zeroed: Uint8Array
  readonly requested: Uint8Array
  readonly precopied: Uint8Array
}

/** What the source sends once, and does not repeat on a recovered connection. */
export interface Announced {
  readonly ramSectionId: number
  readonly blocks: readonly RamBlockInfo[]
}

/** What a worker needs to continue a postcopy that is paused. */
export interface Resumption {
  readonly announced: Announced
  readonly userfaultfdId: number
}

export interface DestinationWorkerData {
  readonly uri: MigrationUri
  /** Undefined: plaintext. */
  readonly tls: TlsCredentials | undefined
  /** Undefined: the main thread decides, see the notice `configuration`. */
  readonly machineType: string | undefined
  readonly blocks: readonly SharedBlock[]
  readonly capabilities: Capabilities
  readonly parameters: Parameters
  /** Undefined: what the kernel allows. */
  readonly userModeOnly: boolean | undefined
  /** Kernel thread id of the destination's owner; undefined if that is a worker. */
  readonly ownerThreadId: number | undefined
  /** Undefined: a new migration. */
  readonly resumption: Resumption | undefined
  readonly counters: SharedArrayBuffer
  readonly faultLog: SharedFaultLog
  /** The buffer of a `Claim`. */
  readonly claim: SharedArrayBuffer
}

/** To the worker. */
export type DestinationRequest =
  | { readonly type: 'pong'; readonly value: number }
  /** The guest runs, or is stopped: as it was at the source, or because it did not start. */
  | { readonly type: 'guest-running' }
  /** The guest was given back: it never runs here. */
  | { readonly type: 'load-failed'; readonly error: ErrorRecord }
  | { readonly type: 'pause' }

/** From the worker. */
export type DestinationNotice =
  | { readonly type: 'listening'; readonly uri: MigrationUri }
  /** A peer was rejected. */
  | { readonly type: 'refused'; readonly error: ErrorRecord }
  /** Attach to it before anything is armed, because it must outlive the worker. */
  | { readonly type: 'userfaultfd'; readonly id: number; readonly userModeOnly: boolean }
  | { readonly type: 'announced'; readonly announced: Announced }
  | { readonly type: 'state'; readonly state: MigrationState; readonly error?: ErrorRecord }
  /** The main thread rejects it by `load-failed`; otherwise it is accepted. */
  | { readonly type: 'configuration'; readonly machineType: string; readonly raw: Uint8Array }
  /** A package: devices, then its end, RUN. */
  | {
      readonly type: 'package'
      readonly blob: Uint8Array<ArrayBuffer>
      readonly streamOffset: number
    }
  /** The devices of a plain precopy. */
  | {
      readonly type: 'devices'
      readonly sections: Uint8Array<ArrayBuffer>
      readonly streamOffset: number
    }

/** What the bench tells the two processes of a round, and what they answer. */
import type { Parameters } from '../migration/index.js'

export interface RoundOptions {
  readonly ramBytes: number
  readonly workload: string
  /** Default 1. */
  readonly vcpus?: number
  /** Switch to postcopy after so many milliseconds; undefined: never. */
  readonly postcopyAfterMs: number | undefined
  /** Of the source. No limit of bandwidth unless one is given. */
  readonly parameters?: Partial<Parameters>
  /** Push nothing for so long, then everything. */
  readonly pushAfterMs?: number
  /** The destination looks at its touches so long after it runs, not at the end. */
  readonly observeMs?: number
  /** It tells apart what it saw until so long after that; default 0. */
  readonly warmMs?: number
  /** Where the destination listens; default loopback. */
  readonly host?: string
  /** How long the source runs its workload before it migrates; default 0. */
  readonly warmUpMs?: number
  /** A sweep of so many touches is timed at the destination, from its first moment on. */
  readonly sweepTouches?: number
}

export type Command =
  | { readonly type: 'listen'; readonly options: RoundOptions }
  | { readonly type: 'migrate'; readonly options: RoundOptions; readonly uri: string }
  | { readonly type: 'exit' }

/** Both ends. */
export interface EndResult {
  readonly totalMs: number
  readonly pages: number
  readonly requestedPages: number
  /** Resident at most, beyond the guest's RAM. */
  readonly beyondRamBytes: number
  /** Of all threads, while the migration ran. */
  readonly cpuSeconds: number
  /** The same by time. */
  readonly processors: number
}

export interface SourceResult extends EndResult {
  readonly downtimeMs: number
  readonly precopyBytes: number
  readonly precopyMs: number
  readonly rounds: number
  /** Of the guest, before the migration and during precopy. */
  readonly touchesPerSecond: { readonly before: number; readonly precopy: number }
}

export interface DestinationResult extends EndResult {
  /** 1000 quantiles of the touches that were faults, as the vCPUs saw them, in microseconds. */
  readonly faultQuantilesUs: readonly number[]
  /** Of those before `warmMs`. */
  readonly coldQuantilesUs: readonly number[]
  /** The destination's own: from reading a fault to placing its page, 99 of 100. */
  readonly placedP99Us: number
  readonly blocktimeMs: number
  /** Touches of all vCPUs by the time since the guest ran, in ms. */
  readonly touched: readonly (readonly [ms: number, touches: number])[]
  readonly sweepMs: number
}

export type Answer =
  | { readonly type: 'listening'; readonly uri: string }
  | { readonly type: 'migrated'; readonly result: SourceResult }
  | { readonly type: 'arrived'; readonly result: DestinationResult }
  | { readonly type: 'failed'; readonly reason: string }
